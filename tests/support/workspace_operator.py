"""An operator that reconciles InferenceWorkspaces only, and what a kubelet and a trainer would write around it.

FineTuneJobs are then the test's own: nothing but the test writes their status.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from cluster.client import Cluster, condition
from support.operator_process import OperatorProcess, running
from tunesmith_api import status as state
from tunesmith_operator.app.replica import Operator
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine import logs
from tunesmith_operator.engine.kube.client import KubeClient
from tunesmith_operator.engine.metrics import Metrics
from tunesmith_operator.inferenceworkspace import InferenceWorkspaceReconciler

Object = dict[str, Any]


class WorkspaceOperator(OperatorProcess):
    """One replica of it."""

    def start(self) -> None:
        """Start it; it is not waited for."""
        tests = Path(__file__).parents[1]
        path = os.pathsep.join((str(tests), str(tests.parent / "hack"), os.environ.get("PYTHONPATH", "")))
        environment = {**self._environment, "PYTHONPATH": path}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([sys.executable, "-m", __name__], env=environment, stdout=log, stderr=log)


def workspace_operator(cluster: Cluster, namespace: str) -> AbstractContextManager[WorkspaceOperator]:
    """Run it for the time of a `with` block."""
    return running(WorkspaceOperator(cluster, namespace))


class Around:
    """A namespace with an operator, and everything beside it, played by the test."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def job(
        self, name: str, digest: str = "", failed: str = "", labels: dict[str, str] | None = None, base: str = ""
    ) -> None:
        """Make a FineTuneJob that trains, has completed (with a digest) or has failed (with a reason).

        With the digest of a base it publishes an adapter.
        """
        spec = {"model": {"scratch": {}}, "method": "full", "dataset": {"sources": [{"uri": "https://x/y.jsonl"}]}}
        metadata = {"name": name, "namespace": self.namespace, "labels": labels or {}}
        job = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": metadata, "spec": spec}
        if self.cluster.find("FineTuneJob", name, self.namespace) is None:
            self.cluster.create(job)
        status = state.accepted({})
        if digest:
            artifact: Object = {"uri": f"pvc://{name}-work/{name}/artifact", "digest": digest}
            if base:
                artifact = {"uri": f"s3://bucket/{name}", "digest": digest}
                artifact["base"] = {"uri": "s3://bucket/base", "digest": base}
            status = state.completed(status, artifact, {"after": {"evalLoss": 0.5}})
        elif failed:
            status = state.failed(status, failed, "it did not work. Try another")
        self.cluster.patch("FineTuneJob", name, {"status": status}, self.namespace, "status")

    def workspace(self, name: str = "faq", **spec: Any) -> None:
        """Apply an InferenceWorkspace; `spec` replaces whole sections."""
        given = {"model": {"fineTuneJob": "job-a"}, **spec}
        metadata = {"name": name, "namespace": self.namespace}
        obj = {"apiVersion": "tunesmith.dev/v1alpha1", "kind": "InferenceWorkspace", "metadata": metadata}
        self.cluster.apply({**obj, "spec": given})

    def status(
        self, reason: str, said: str = "", ready: str = "", name: str = "faq", timeout: float = 300, **fields: Any
    ) -> Object:
        """Wait until a workspace has this reason (and words, and fields) for its own generation; return its status."""

        def is_there(obj: Object) -> bool:
            found, status = condition(obj, "Ready"), obj.get("status") or {}
            return (
                found.get("reason") == reason
                and said in found.get("message", "")
                and ready in ("", found["status"])
                and status.get("observedGeneration") == obj["metadata"]["generation"]
                and all(status.get(key) == value for key, value in fields.items())
            )

        found: Object = self.cluster.wait("InferenceWorkspace", name, is_there, self.namespace, timeout=timeout)
        return found["status"]

    def pods(self, count: int, revision: str, name: str = "faq", timeout: float = 300) -> list[Object]:
        """Wait until there are so many pods of a revision that do not end, and return them."""
        labels = f"tunesmith.dev/owner-name={name},tunesmith.dev/revision={revision}"
        self.cluster.wait_all("Pod", lambda pods: len(_living(pods)) == count, self.namespace, labels, timeout=timeout)
        return _living(self.cluster.list("Pod", self.namespace, labels))

    def say(self, pod: Object, *, ready: bool = False, container: Object | None = None, **status: Any) -> None:
        """Write a pod's status as a kubelet does."""
        server = {"name": "server", "image": "x", "imageID": "", "ready": ready, "restartCount": 0, "started": ready}
        server |= container or {"state": {"running": {"startedAt": _now()}}}
        conditions = [
            {"type": kind, "status": str(ready), "lastTransitionTime": _now()} for kind in ("Ready", "ContainersReady")
        ]
        body = {"phase": "Running", "conditions": conditions, "containerStatuses": [server], **status}
        self.cluster.patch("Pod", pod["metadata"]["name"], {"status": body}, self.namespace, "status")

    def make_ready(self, count: int, revision: str, name: str = "faq", timeout: float = 300, **status: Any) -> None:
        """Play the kubelet of a rollout that goes well: what is made becomes ready, until all is as wanted."""
        deadline = time.monotonic() + timeout
        labels = f"tunesmith.dev/owner-name={name}"
        done: set[str] = set()

        def step(pods: list[Object]) -> bool:
            new = [pod for pod in _living(pods) if pod["metadata"]["labels"]["tunesmith.dev/revision"] == revision]
            for pod in new:
                if pod["metadata"]["name"] not in done:
                    done.add(pod["metadata"]["name"])
                    self.say(pod, ready=True, **status)
            return len(_living(pods)) == len(new) == count

        self.cluster.wait_all("Pod", step, self.namespace, labels, timeout=deadline - time.monotonic())


def _living(pods: list[Object]) -> list[Object]:
    return [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


async def _main() -> None:
    settings = OperatorSettings.from_environment()
    logs.configure(settings.log_format, settings.log_level)
    metrics = Metrics()
    client = await KubeClient.connect(metrics.requests, connections=32)
    try:
        await Operator(settings, (InferenceWorkspaceReconciler(settings),), client, metrics).run()
    finally:
        await client.close()


if __name__ == "__main__":
    asyncio.run(_main())
