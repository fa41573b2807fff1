"""The operator's engine with a reconciler that is simple enough to see the engine through, as a process.

`python tests/support/engine_process.py` runs it; `EngineProcess` is one as tests hold it. For a FineTuneJob it keeps a
Service and creates one suspended Job; an InferenceWorkspace says in its status how far the job is that it follows.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith_api import status
from tunesmith_operator.app.replica import Operator
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine import logs
from tunesmith_operator.engine.kube.client import KubeClient
from tunesmith_operator.engine.labels import OWNER_KIND, OWNER_NAME, OWNER_UID, STAGE
from tunesmith_operator.engine.metrics import Metrics
from tunesmith_operator.engine.reconciler import Context, Decision, EventSpec, KubeObject

IMAGE = "registry.invalid/nothing:1"


def labels(owner: KubeObject) -> dict[str, str]:
    """The labels of a child."""
    metadata = owner["metadata"]
    return {OWNER_UID: metadata["uid"], OWNER_KIND: owner["kind"], OWNER_NAME: metadata["name"], STAGE: "prepare"}


def child(owner: KubeObject, api_version: str, kind: str, name: str, spec: KubeObject) -> KubeObject:
    """A child with labels and a controller reference."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata = {
        "name": name,
        "namespace": owner["metadata"]["namespace"],
        "labels": labels(owner),
        "ownerReferences": [reference],
    }
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


def pod_spec() -> KubeObject:
    """A pod that Pod Security `restricted` lets in."""
    container = {
        "name": "main",
        "image": IMAGE,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    return {"restartPolicy": "Never", "securityContext": security, "containers": [container]}


class JobReconciler:
    """Accepts a job, then keeps a Service `NAME` and creates a Job `NAME-prepare-1`."""

    kind = "FineTuneJob"

    async def reconcile(self, obj: KubeObject, context: Context) -> Decision:
        name, uid = obj["metadata"]["name"], obj["metadata"]["uid"]
        current = obj.get("status") or {}
        if "phase" not in current:
            new = status.accepted(current, obj["metadata"]["generation"])
            return Decision(status=new, events=(EventSpec("Normal", "Accepted", "Seen"),))
        jobs = context.store.owned("Job", uid)
        if context.errors:
            new = status.waiting(current, "ChildRefused", context.errors[0].message)
        elif jobs:
            new = {**status.waiting(current, "Working", f"{len(jobs)} Job"), "attempts": {"prepare": len(jobs)}}
        else:
            new = current
        job_spec = {"suspend": True, "template": {"metadata": {"labels": labels(obj)}, "spec": pod_spec()}}
        service_spec = {"clusterIP": "None", "selector": {OWNER_UID: uid}, "ports": [{"name": "http", "port": 80}]}
        return Decision(
            status=new,
            apply=(child(obj, "v1", "Service", name, service_spec),),
            create=(child(obj, "batch/v1", "Job", f"{name}-prepare-1", job_spec),),
        )

    def map_to_names(self, kind: str, obj: KubeObject, store: Any) -> list[str]:
        return []


class WorkspaceReconciler:
    """Says in its message which phase the job has that it follows."""

    kind = "InferenceWorkspace"

    async def reconcile(self, obj: KubeObject, context: Context) -> Decision:
        name = obj["spec"]["model"]["fineTuneJob"]
        job = context.store.get("FineTuneJob", obj["metadata"]["namespace"], name)
        message = f"the job is {(job.get('status') or {}).get('phase') or 'new'}" if job else "there is no job"
        current = {"observedGeneration": obj["metadata"]["generation"], **(obj.get("status") or {})}
        return Decision(status=status.waiting(current, "Following", message))

    def map_to_names(self, kind: str, obj: KubeObject, store: Any) -> list[str]:
        if kind != "FineTuneJob":
            return []
        return [
            workspace["metadata"]["name"]
            for workspace in store.all(self.kind, obj["metadata"]["namespace"])
            if workspace["spec"]["model"].get("fineTuneJob") == obj["metadata"]["name"]
        ]


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class EngineProcess:
    """A replica that runs as a process."""

    def __init__(self, environment: dict[str, str], log: Path, **settings: Any) -> None:
        self.port = free_port()
        given = {"health_port": self.port, "progress_port": 0, "log_format": "text", "log_level": "info", **settings}
        variables = {f"TUNESMITH_{name.upper()}": str(value) for name, value in given.items()}
        folders = ("api", "operator", "trainer", "serving")
        path = os.pathsep.join(str(Path(__file__).parents[2] / folder) for folder in folders)
        self.log = log
        with log.open("a") as output:
            self._process = subprocess.Popen(
                [sys.executable, __file__], env={**environment, **variables, "PYTHONPATH": path}, stdout=output,
                stderr=output, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def get(self, path: str) -> tuple[int, str]:
        """Return the code and text of a page of its health server; code 0 when it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str) -> float:
        """Return a series' value, by its name with labels; 0 when it is not there."""
        lines = self.get("/metrics")[1].splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.rsplit(" ", 1)[0] == name)

    def kill(self) -> None:
        """SIGKILL it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def terminate(self, timeout: float = 20) -> int:
        """SIGTERM it and return its exit code."""
        self._process.terminate()
        return self._process.wait(timeout)

    def stop(self) -> None:
        """End it, whatever state it is in."""
        if self._process.poll() is None:
            self.terminate()


@contextmanager
def engine(environment: dict[str, str], log: Path, **settings: Any) -> Iterator[EngineProcess]:
    """Give a running replica; its log is printed when something fails."""
    process = EngineProcess(environment, log, **settings)
    try:
        yield process
    except BaseException:
        print(log.read_text()[-8000:])
        raise
    finally:
        process.stop()


async def _main() -> None:
    settings = OperatorSettings.from_environment()
    logs.configure(settings.log_format, settings.log_level)
    metrics = Metrics()
    client = await KubeClient.connect(metrics.requests)
    try:
        await Operator(settings, (JobReconciler(), WorkspaceReconciler()), client, metrics).run()
    finally:
        await client.close()


if __name__ == "__main__":
    asyncio.run(_main())
