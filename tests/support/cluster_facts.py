"""What a kubelet and a cloud would tell the API server, written by tests: nodes, GPUs, the ends of pods."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster.client import Cluster
from cluster.requests import Object

GPU = "nvidia.com/gpu"
_TIME = "2026-01-01T00:00:00Z"


def add_node(
    cluster: Cluster,
    name: str,
    labels: dict[str, str] | None = None,
    taints: list[Object] | None = None,
    capacity: dict[str, str] | None = None,
) -> Object:
    """Make a node that is ready and runs nothing: pods can be placed on it and then stay pending."""
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": {"taints": taints or []},
    }
    cluster.create(node)
    amounts = {"cpu": "8", "memory": "32Gi", "pods": "110", **(capacity or {})}
    ready = {"type": "Ready", "status": "True", "reason": "Test", "message": "", "lastHeartbeatTime": _TIME}
    status = {"capacity": amounts, "allocatable": amounts, "conditions": [{**ready, "lastTransitionTime": _TIME}]}
    cluster.patch("Node", name, {"status": status}, subresource="status")
    # The admission of a new node taints it as not ready; a controller takes that away once it has seen the condition.
    return cluster.wait("Node", name, lambda obj: not _has_taint(obj, "node.kubernetes.io/not-ready"))


def beat(cluster: Cluster, *names: str) -> None:
    """Let nodes that run nothing tell that they are alive, as a kubelet does: else they are not ready after a while."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    for name in names:
        conditions = cluster.get("Node", name)["status"]["conditions"]
        beaten = [{**item, "lastHeartbeatTime": now} if item["type"] == "Ready" else item for item in conditions]
        cluster.patch("Node", name, {"status": {"conditions": beaten}}, subresource="status")


@contextmanager
def cordoned(cluster: Cluster, node: str = "tunesmith") -> Iterator[None]:
    """Let a node take no new pods until the end of the block."""
    cluster.patch("Node", node, {"spec": {"unschedulable": True}})
    try:
        yield
    finally:
        cluster.patch("Node", node, {"spec": {"unschedulable": False}})


def set_gpus(cluster: Cluster, count: int, node: str = "tunesmith") -> None:
    """Let a node have `count` GPUs, as far as scheduling goes; containers see none of them."""
    amounts = {GPU: str(count)}
    cluster.patch("Node", node, {"status": {"capacity": amounts, "allocatable": amounts}}, subresource="status")
    cluster.wait("Node", node, lambda obj: obj["status"]["allocatable"].get(GPU) == str(count))


def set_running(cluster: Cluster, pod: Object) -> Object:
    """Write that all of a pod's containers run and are ready."""
    return _set_status(cluster, pod, "Running", {"running": {"startedAt": _TIME}}, ready=True)


def set_ended(
    cluster: Cluster, pod: Object, exit_code: int = 0, message: str = "", reason: str = "", **status: Any
) -> Object:
    """Write that all of a pod's containers have ended.

    Args:
        cluster: The cluster.
        pod: The pod.
        exit_code: 0 for Succeeded, anything else for Failed.
        message: The termination message.
        reason: The containers' reason, by default Completed or Error; a kubelet also writes OOMKilled.
        status: More of the pod's status, such as `reason="Evicted"`, or `conditions`.
    """
    ended = {
        "exitCode": exit_code,
        "message": message,
        "reason": reason or ("Error" if exit_code else "Completed"),
        "startedAt": _TIME,
        "finishedAt": _TIME,
    }
    return _set_status(cluster, pod, "Failed" if exit_code else "Succeeded", {"terminated": ended}, **status)


def set_waiting(cluster: Cluster, pod: Object, reason: str, message: str = "") -> Object:
    """Write that a pod's containers wait, such as for ImagePullBackOff."""
    return _set_status(cluster, pod, "Pending", {"waiting": {"reason": reason, "message": message}})


def set_unschedulable(cluster: Cluster, pod: Object, message: str) -> Object:
    """Write what a scheduler does when no node fits."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return _patch(cluster, pod, {"phase": "Pending", "conditions": [condition]})


def _set_status(cluster: Cluster, pod: Object, phase: str, state: Object, ready: bool = False, **status: Any) -> Object:
    containers = [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": ready,
            "restartCount": 0,
            "started": ready,
            "state": state,
        }
        for container in pod["spec"]["containers"]
    ]
    word = "True" if ready else "False"
    conditions = [{"type": kind, "status": word} for kind in ("Ready", "ContainersReady")]
    body = {"phase": phase, "conditions": conditions, "containerStatuses": containers, "startTime": _TIME, **status}
    return _patch(cluster, pod, body)


def _patch(cluster: Cluster, pod: Object, status: Object) -> Object:
    meta = pod["metadata"]
    return cluster.patch("Pod", meta["name"], {"status": status}, meta["namespace"], "status")


def _has_taint(node: Object, key: str) -> bool:
    return any(taint["key"] == key for taint in node["spec"].get("taints", []))
