"""Every status that objects go through, by watch."""

import threading
from typing import Any

import urllib3

from cluster.client import Cluster, condition
from cluster.requests import ApiError

PHASES = ["Pending", "Preparing", "Training", "Publishing", "Succeeded"]


class StatusRecorder:
    """Watches the FineTuneJobs of a namespace and notes each one's phases in order, and what went backwards.

    Attributes:
        phases: The phases that each object went through, without repetitions.
        backwards: A sentence for each step back.
    """

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        self.phases: dict[str, list[str]] = {}
        self.backwards: list[str] = []
        self._generation: dict[str, int] = {}
        self._ready: dict[str, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "StatusRecorder":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(300)

    def _run(self) -> None:
        path = self._cluster.http.resource("FineTuneJob").path(self._namespace)
        while not self._over.is_set():
            try:
                for event in self._cluster.http.watch(path, 2.0):
                    if event["type"] in ("ADDED", "MODIFIED"):
                        self._note(event["object"])
            except (urllib3.exceptions.HTTPError, ApiError, OSError):
                self._over.wait(0.2)

    def _note(self, obj: dict[str, Any]) -> None:
        name, status = obj["metadata"]["name"], obj.get("status", {})
        seen = self.phases.setdefault(name, [])
        phase = status.get("phase")
        if phase and (not seen or seen[-1] != phase):
            if seen and PHASES.index(phase) < PHASES.index(seen[-1]):
                self.backwards.append(f"{name}: {phase} after {seen[-1]}")
            seen.append(phase)
        generation = status.get("observedGeneration", -1)
        if generation < self._generation.get(name, -1):
            self.backwards.append(f"{name}: observedGeneration {generation} after {self._generation[name]}")
        self._generation[name] = generation
        ready = condition(obj, "Ready").get("status", "")
        if self._ready.get(name) == "True" and ready != "True":
            self.backwards.append(f"{name}: Ready is {ready or 'gone'} after True")
        self._ready[name] = ready
