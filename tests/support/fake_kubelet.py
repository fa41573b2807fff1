"""Where no kubelet runs: writes into the stages' pods what one would, at random moments.

A fake, for control planes without nodes: the pods' containers never run. All else is real: the Job controller makes the
pods and counts how they end.
"""

import json
import random
import threading
import time
from typing import Any

import urllib3

from cluster.client import Cluster
from cluster.requests import ApiError

Object = dict[str, Any]
AWAY = (ApiError, OSError, urllib3.exceptions.HTTPError)

RESULTS: dict[str, Object] = {
    "prepare": {},
    "train": {
        "progress": {"stage": "train", "step": 12, "totalSteps": 12, "loss": 0.5},
        "resolved": {"totalSteps": {"value": 12, "reason": "maxSteps is set in the spec"}},
    },
    "publish": {
        "artifact": {"uri": "/work/job/artifact", "digest": "sha256:" + "ab" * 32},
        "metrics": {"before": {"evalLoss": 7.0}, "after": {"evalLoss": 0.5, "exactMatch": 0.9}},
    },
}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def running(pod: Object) -> Object:
    """The status of a pod whose container has been started."""
    container = pod["spec"]["containers"][0]
    state = {"running": {"startedAt": _now()}}
    return _status(pod, "Running", container, state, ready=True)


def finished(pod: Object, exit_code: int = 0, message: str = "", reason: str = "") -> Object:
    """The status of a pod whose container has ended; the message is what it wrote to its termination log."""
    container = pod["spec"]["containers"][0]
    reason = reason or ("Completed" if exit_code == 0 else "Error")
    state = {
        "terminated": {
            "exitCode": exit_code,
            "reason": reason,
            "message": message,
            "startedAt": _now(),
            "finishedAt": _now(),
        }
    }
    return _status(pod, "Failed" if exit_code else "Succeeded", container, state, ready=False)


def _status(pod: Object, phase: str, container: Object, state: Object, *, ready: bool) -> Object:
    flag = "True" if ready else "False"
    return {
        "phase": phase,
        "startTime": _now(),
        "conditions": [
            {"type": kind, "status": flag, "lastTransitionTime": _now()} for kind in ("Ready", "ContainersReady")
        ],
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": ready,
                "started": ready,
                "restartCount": 0,
                "state": state,
            }
        ],
    }


def outcome(stage: str) -> str:
    """What a stage that has completed writes to its termination log."""
    return json.dumps({"reason": "Completed", "message": "", "remedy": "", "result": RESULTS[stage]})


class FakeKubelet:
    """Starts each pod of a stage in a namespace and ends it well, each after a random time."""

    def __init__(self, cluster: Cluster, namespace: str, seed: int, longest: float = 1.0) -> None:
        self._cluster, self._namespace, self._longest = cluster, namespace, longest
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self._due: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "FakeKubelet":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.1):
            try:
                pods = self._cluster.list("Pod", self._namespace, labels="tunesmith.dev/stage")
            except AWAY:
                continue  # the API server is away: so is what a kubelet writes
            for pod in pods:
                self._advance(pod)

    def _advance(self, pod: Object) -> None:
        phase = pod.get("status", {}).get("phase", "Pending")
        if phase not in ("Pending", "Running") or pod["metadata"].get("deletionTimestamp"):
            return
        key = pod["metadata"]["uid"] + phase
        due = self._due.setdefault(key, time.monotonic() + self._chance.uniform(0, self._longest))
        if time.monotonic() < due:
            return
        stage = pod["metadata"]["labels"]["tunesmith.dev/stage"]
        status = running(pod) if phase == "Pending" else finished(pod, message=outcome(stage))
        try:
            self._cluster.patch("Pod", pod["metadata"]["name"], {"status": status}, self._namespace, "status")
        except AWAY:
            self._due.pop(key, None)
