"""A stand-in for the operator and for training: it writes into FineTuneJobs the statuses that they would.

Nothing trains: a hundred jobs that do would not fit on a machine. What it writes goes through the real API server.
"""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import urllib3

from cluster.client import Cluster
from cluster.requests import ApiError

Object = dict[str, Any]
REPORTS = 5
"""How often a job tells of its progress."""

_AWAY = (ApiError, OSError, urllib3.exceptions.HTTPError)
_LOOK_SECONDS = 0.2
_STEPS = 20


class StandinOperator:
    """Lets jobs run for as long as they are to, also while the API server is away, as pods do.

    Args:
        cluster: The cluster.
        prefix: Of the namespaces in which it looks.
        seconds: The shortest and the longest time that a job takes; which one follows from its name.
    """

    def __init__(self, cluster: Cluster, prefix: str, seconds: tuple[float, float]) -> None:
        self._cluster, self._prefix, self._seconds = cluster, prefix, seconds
        self._ran: dict[str, float] = {}
        self._since: dict[str, float] = {}
        self._stop = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Work until the end of the context."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(300)

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            with suppress(*_AWAY):
                for job in self._cluster.list("FineTuneJob"):
                    if job["metadata"]["namespace"].startswith(self._prefix):
                        self._look(job)

    def _look(self, job: Object) -> None:
        before = job.get("status", {})
        if before.get("phase") == "Succeeded":
            return
        status = self._status(job)
        if any(before.get(key) != value for key, value in status.items()):
            meta = job["metadata"]
            body = {"metadata": {"uid": meta["uid"]}, "status": status}  # of this very object
            self._cluster.patch("FineTuneJob", meta["name"], body, meta["namespace"], "status")

    def _status(self, job: Object) -> Object:
        uid, name, now = job["metadata"]["uid"], job["metadata"]["name"], time.monotonic()
        seconds = random.Random(name).uniform(*self._seconds)
        since = self._since.pop(uid, now)
        ran = self._ran[uid] = self._ran.get(uid, 0.0) + now - since
        if ran >= seconds:
            progress = {"step": _STEPS, "totalSteps": _STEPS, "loss": 0.5}
            artifact = {"uri": "/no/artifact", "digest": f"sha256:{'0' * 64}"}
            return {"phase": "Succeeded", "progress": progress, "artifact": artifact, "conditions": [_ready("True")]}
        step = int(REPORTS * ran / seconds) * _STEPS // REPORTS
        is_suspended = bool(job["spec"].get("suspend"))
        if not is_suspended:
            self._since[uid] = now
        reason = "Suspended" if is_suspended else "Training"
        progress = {"step": step, "totalSteps": _STEPS, "loss": 3.0 - step / 10}
        return {"phase": "Training", "progress": progress, "conditions": [_ready("Unknown", reason)]}


def _ready(status: str, reason: str = "Completed") -> Object:
    at = "2026-01-01T00:00:00Z"
    return {"type": "Ready", "status": status, "reason": reason, "message": "", "lastTransitionTime": at}
