"""Pods of one small static program, as `restricted` wants them."""

from typing import Any

from cluster.containerd import PAUSE
from cluster.requests import Object
from cluster_demo.pods import POD_SECURITY, RESTRICTED

IMAGE = PAUSE


def spec(*command: str, volumes: dict[str, str] | None = None, **container: Any) -> Object:
    """Return a pod's spec.

    Args:
        command: What the program is to do, such as `get`, URL.
        volumes: Names of claims by the paths where they are mounted.
        container: More fields of the container.
    """
    claims = volumes or {}
    mounts = [{"name": f"volume-{index}", "mountPath": path} for index, path in enumerate(claims)]
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "securityContext": POD_SECURITY,
        "containers": [
            {
                "name": "probe",
                "image": IMAGE,
                "args": list(command),
                "volumeMounts": mounts,
                "securityContext": RESTRICTED,
                **container,
            }
        ],
        "volumes": [
            {"name": mount["name"], "persistentVolumeClaim": {"claimName": claim}}
            for mount, claim in zip(mounts, claims.values(), strict=True)
        ],
    }


def pod(name: str, *command: str, **options: Any) -> Object:
    """Return a pod; the options are those of `spec`."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": spec(*command, **options),
    }


def claim(name: str, mode: str = "ReadWriteOnce", storage_class: str | None = None) -> Object:
    """Return a claim of a volume, by default of the default storage class."""
    asked: Object = {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}}
    if storage_class:
        asked["storageClassName"] = storage_class
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": asked}
