"""Pods that run one command beside an installed operator."""

from __future__ import annotations

import uuid

from cluster.client import Cluster
from cluster.requests import Object
from cluster_demo.install import NAMESPACE

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "fsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod_with_volume(namespace: str, claim: str, image: str, command: str, read_only: bool = True) -> Object:
    """Return a pod that runs a shell command with a claim at /work and satisfies `restricted`."""
    container = {
        "name": "main",
        "image": image,
        "command": ["sh", "-c", command],
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "work", "mountPath": "/work", "readOnly": read_only}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"run-{uuid.uuid4().hex[:8]}", "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": POD_SECURITY,
            "containers": [container],
            "volumes": [{"name": "work", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }


def run_pod(cluster: Cluster, pod: Object, timeout: float = 120) -> str:
    """Run a pod to its end and return what it printed.

    Raises:
        AssertionError: The pod failed.
    """
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    cluster.create(pod, namespace)
    try:
        over = cluster.wait(
            "Pod", name, lambda obj: obj.get("status", {}).get("phase") in ("Succeeded", "Failed"), namespace,
            timeout=timeout,
        )  # fmt: skip
        output = cluster.run("logs", "-n", namespace, name)
        if over["status"]["phase"] != "Succeeded":
            raise AssertionError(output)
        return output
    finally:
        cluster.delete("Pod", name, namespace, grace=0)


def operator_image(cluster: Cluster) -> str:
    """Return the image of the operator that is installed: small, and on every node that it ran on."""
    (deployment,) = cluster.list("Deployment", NAMESPACE, labels="app.kubernetes.io/name=tunesmith")
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


def read_volume(cluster: Cluster, namespace: str, claim: str, command: str) -> str:
    """Return what a shell command prints in a pod that has a claim at /work."""
    return run_pod(cluster, pod_with_volume(namespace, claim, operator_image(cluster), command))
