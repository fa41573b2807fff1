"""The kinds that the operator knows, and their paths at the API server."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith_api.objects.metadata import GROUP, VERSION
from tunesmith_operator.engine.labels import OWNER_UID


@dataclass(frozen=True)
class Resource:
    """One kind of the API server.

    Attributes:
        kind: Its kind, such as `Job`.
        group: Its API group, empty for the core.
        version: Its version.
        plural: Its name in paths.
        namespaced: Whether its objects are in namespaces.
    """

    kind: str
    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the path of an object, or of a list when no name is given.

        Args:
            namespace: Its namespace; None for all namespaces, or for a kind that has none.
            name: Its name.
            subresource: Such as `status`.
        """
        parts = [f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"]
        if namespace and self.namespaced:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        parts.extend(part for part in (name, subresource) if part)
        return "/".join(parts)


FINE_TUNE_JOB = Resource("FineTuneJob", GROUP, VERSION, "finetunejobs")
INFERENCE_WORKSPACE = Resource("InferenceWorkspace", GROUP, VERSION, "inferenceworkspaces")
JOB = Resource("Job", "batch", "v1", "jobs")
POD = Resource("Pod", "", "v1", "pods")
LEASE = Resource("Lease", "coordination.k8s.io", "v1", "leases")
SECRET = Resource("Secret", "", "v1", "secrets")
CONFIG_MAP = Resource("ConfigMap", "", "v1", "configmaps")
EVENT = Resource("Event", "events.k8s.io", "v1", "events")
TOKEN_REVIEW = Resource("TokenReview", "authentication.k8s.io", "v1", "tokenreviews", namespaced=False)

OWNERS = (FINE_TUNE_JOB, INFERENCE_WORKSPACE)
"""The two kinds of the project's own API."""

OWNED = (
    JOB,
    POD,
    Resource("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims"),
    Resource("Service", "", "v1", "services"),
    Resource("Deployment", "apps", "v1", "deployments"),
    Resource("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets"),
)
"""The kinds of children, watched where they carry the owner label."""

WATCHED = (*OWNERS, *OWNED)

UNWATCHED = (CONFIG_MAP,)
"""The kinds of children that are not watched: whoever may watch them sees everybody's. They are read before each write,
and what others change in them is noticed at the next reconcile."""

OWNED_SELECTOR = OWNER_UID

_OTHERS = (
    LEASE,
    SECRET,
    CONFIG_MAP,
    EVENT,
    TOKEN_REVIEW,
    Resource("ReplicaSet", "apps", "v1", "replicasets"),
    Resource("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers"),
    Resource("ServiceAccount", "", "v1", "serviceaccounts"),
    Resource("ResourceQuota", "", "v1", "resourcequotas"),
    Resource("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies"),
    Resource("LocalQueue", "kueue.x-k8s.io", "v1beta1", "localqueues"),
    Resource("Workload", "kueue.x-k8s.io", "v1beta1", "workloads"),
    Resource("Namespace", "", "v1", "namespaces", namespaced=False),
    Resource("Node", "", "v1", "nodes", namespaced=False),
    Resource("PersistentVolume", "", "v1", "persistentvolumes", namespaced=False),
    Resource("PriorityClass", "scheduling.k8s.io", "v1", "priorityclasses", namespaced=False),
    Resource("StorageClass", "storage.k8s.io", "v1", "storageclasses", namespaced=False),
)
_BY_KIND = {resource.kind: resource for resource in (*WATCHED, *_OTHERS)}


def child_resource_of(kind: str) -> Resource:
    """Return the resource of a kind that children have.

    Raises:
        KeyError: It is neither watched, so that the deletion of a child would go unnoticed, nor one of `UNWATCHED`.
    """
    resource = resource_of(kind)
    if resource not in (*WATCHED, *UNWATCHED):
        raise KeyError(f"children of kind {kind} are not watched")
    return resource


def resource_of(kind: str) -> Resource:
    """Return the resource of a kind.

    Raises:
        KeyError: The operator does not know the kind.
    """
    try:
        return _BY_KIND[kind]
    except KeyError:
        raise KeyError(f"the operator does not know the kind {kind}") from None
