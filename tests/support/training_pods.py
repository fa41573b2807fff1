"""Pods of the train stage, as tests follow them: how far they are, and what replaces one that is taken away."""

from typing import Any

from cluster.client import Cluster
from support.operator import follow, has_ended

LONG = {
    "maxSteps": 600,
    "learningRate": 0.003,
    "globalBatchSize": 8,
    "maxLength": 128,
    "precision": "fp32",
    "checkpoint": {"everySteps": 20},
}


def wait_for_step(cluster: Cluster, namespace: str, name: str, step: int) -> None:
    """Wait until the status tells that a step is done."""
    cluster.wait(
        "FineTuneJob", name,
        lambda obj: obj.get("status", {}).get("progress", {}).get("step", 0) >= step or has_ended(obj),
        namespace,
    )  # fmt: skip


def next_pod(cluster: Cluster, namespace: str, name: str, before: dict[str, Any]) -> dict[str, Any]:
    """Wait until another pod of the train stage runs, and return it."""

    def running(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            pod for pod in pods
            if pod["metadata"]["uid"] != before["metadata"]["uid"] and pod["status"].get("phase") == "Running"
            and pod["metadata"]["labels"]["tunesmith.dev/owner-name"] == name
        ]  # fmt: skip

    pods = cluster.wait_all("Pod", running, namespace, labels="tunesmith.dev/stage=train")
    return running(pods)[0]


def from_step(cluster: Cluster, namespace: str, pod: dict[str, Any]) -> int:
    """Return the step that a pod says it goes on from; 0 when it began anew."""
    name = pod["metadata"]["name"]
    # `logs -f` ends with the pod; the line comes as soon as training has begun.
    for line in follow(cluster, namespace, name, timeout=300):
        if "training from step" in line:
            return int(line.split("training from step")[1].split()[0])
    raise AssertionError(f"{name} ended without training")
