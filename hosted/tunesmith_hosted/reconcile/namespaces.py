"""The objects of a project's namespace. Pure, but for the Secrets, which are read from where they are mounted."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith_hosted.config.cluster import SERVICE_ACCOUNT, ClusterSettings
from tunesmith_hosted.fine_tuning.manifest import PROJECT_LABEL

MANAGED = {"app.kubernetes.io/managed-by": "tunesmith-hosted"}

Object = dict[str, Any]

_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_QUOTA = {"services.loadbalancers": "0", "services.nodeports": "0"}
_NAME_LABEL = "kubernetes.io/metadata.name"
_RBAC = "rbac.authorization.k8s.io"
_NETWORKING = "networking.k8s.io/v1"
_DOCKER = ".dockerconfigjson"


def namespace_path(name: str) -> str:
    """Return the path of a namespace."""
    return f"/api/v1/namespaces/{name}"


def rights_objects(name: str, project_id: str, cluster: ClusterSettings) -> list[tuple[str, Object]]:
    """Return the namespace, and what gives the service its rights in it, each with its path.

    Args:
        name: The namespace.
        project_id: The project; empty for what all projects share.
        cluster: The administrator's settings.
    """
    labels = {**MANAGED, "pod-security.kubernetes.io/enforce": "restricted"}
    if project_id:
        labels[PROJECT_LABEL] = project_id
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    found: list[tuple[str, Object]] = [(namespace_path(name), namespace)]
    if cluster.role:
        subject = {"kind": "ServiceAccount", "name": cluster.service_account, "namespace": system_namespace(cluster)}
        binding = _object(f"{_RBAC}/v1", "RoleBinding", cluster.binding)
        binding["roleRef"] = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": cluster.role}
        binding["subjects"] = [subject]
        found.append((f"/apis/{_RBAC}/v1/namespaces/{name}/rolebindings/{cluster.binding}", binding))
    return found


def namespace_objects(name: str, limits: Mapping[str, str], cluster: ClusterSettings) -> list[tuple[str, Object]]:
    """Return the objects in the namespace, each with its path.

    Args:
        name: The namespace.
        limits: The project's own `spec.hard` of the ResourceQuota.
        cluster: The administrator's settings.
    """
    core, networking = namespace_path(name), f"/apis/{_NETWORKING}/namespaces/{name}/networkpolicies"
    requests = {"limits": [{"type": "Container", "defaultRequest": {"cpu": "100m", "memory": "128Mi"}}]}
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    quota = {"hard": {**_QUOTA, **cluster.quota, **limits}}
    return [
        (f"{core}/resourcequotas/project", _object("v1", "ResourceQuota", "project", quota)),
        (f"{core}/limitranges/project", _object("v1", "LimitRange", "project", requests)),
        (f"{networking}/default-deny", _object(_NETWORKING, "NetworkPolicy", "default-deny", closed)),
        (f"{networking}/project", _object(_NETWORKING, "NetworkPolicy", "project", _network(cluster))),
        *_account(core, cluster),
        *((f"{core}/secrets/{secret['metadata']['name']}", secret) for secret in secret_objects(cluster.secrets)),
    ]


def secret_objects(folder: Path | None) -> list[Object]:
    """Return the Secrets of a folder: a folder each, whose files are the keys, as Kubernetes mounts them."""
    found = []
    for place in sorted(folder.iterdir()) if folder is not None else ():
        # Beside the keys, which are links, there is what they lead to.
        files = [file for file in sorted(place.iterdir()) if not file.name.startswith("..")]
        secret = _object("v1", "Secret", place.name)
        secret["data"] = {file.name: base64.b64encode(file.read_bytes()).decode() for file in files}
        secret["type"] = "kubernetes.io/dockerconfigjson" if _DOCKER in secret["data"] else "Opaque"
        found.append(secret)
    return found


def system_namespace(cluster: ClusterSettings) -> str:
    """Return the namespace of the service and the operator."""
    own = _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.exists() else "tunesmith-system"
    return cluster.system_namespace or own


def _network(cluster: ClusterSettings) -> Object:
    """Return who asks pods, which is nobody of another project, and whom they ask."""
    pods: Object = {"podSelector": {}}
    system = {"namespaceSelector": {"matchLabels": {_NAME_LABEL: system_namespace(cluster)}}}
    operator = {**system, "podSelector": {"matchLabels": {"app.kubernetes.io/component": "operator"}}}
    names = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    return {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [pods, system]}, *cluster.ingress],
        "egress": [{"to": [pods, operator]}, {"ports": names}, *cluster.egress],
    }


def _account(core: str, cluster: ClusterSettings) -> list[tuple[str, Object]]:
    if not cluster.account_annotations:
        return []
    account = _object("v1", "ServiceAccount", SERVICE_ACCOUNT)
    account["metadata"]["annotations"] = cluster.account_annotations
    account["automountServiceAccountToken"] = False
    return [(f"{core}/serviceaccounts/{SERVICE_ACCOUNT}", account)]


def _object(version: str, kind: str, name: str, spec: Mapping[str, Any] | None = None) -> Object:
    body: Object = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": MANAGED}}
    return {**body, "spec": dict(spec)} if spec is not None else body
