"""What a namespace held when a test failed."""

from cluster.client import Cluster

KINDS = "finetunejobs,inferenceworkspaces,jobs,deployments,pods,services,persistentvolumeclaims,configmaps,leases"


def describe(cluster: Cluster, namespace: str) -> str:
    """Return a namespace's objects, the status of ours, its events and the ends of its pods' logs, for people."""
    parts = [cluster.run("get", KINDS, "-n", namespace, "-o", "wide", "--ignore-not-found", check=False)]
    for kind in ("finetunejobs", "inferenceworkspaces"):
        template = '{range .items[*]}{.kind} {.metadata.name}: {.status}{"\\n"}{end}'
        parts.append(cluster.run("get", kind, "-n", namespace, "-o", f"jsonpath={template}", check=False))
    parts.append(cluster.run("get", "events", "-n", namespace, "--sort-by=.lastTimestamp", check=False))
    if cluster.runs_pods:
        for pod in cluster.list("Pod", namespace):
            name = pod["metadata"]["name"]
            options = ("--all-containers", "--prefix", "--tail=60", "--ignore-errors")
            parts.append(f"--- logs of {name}\n" + cluster.run("logs", "-n", namespace, name, *options, check=False))
    return "\n".join(part.strip() for part in parts if part.strip())
