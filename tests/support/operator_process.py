"""The operator as a process of this machine, over a cluster's kubeconfig."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from cluster.client import Cluster
from support.ports import free_port


class OperatorProcess:
    """One replica. It can be killed and started again; what it prints goes to `log`.

    Attributes:
        namespace: The namespace that it watches, and keeps its lease in.
        name: The replica's name, as the holder of the lease.
        log: The file with all that it has printed.
    """

    def __init__(self, cluster: Cluster, namespace: str, name: str = "operator-0", **settings: Any) -> None:
        self.namespace, self.name = namespace, name
        self.port = free_port()
        self.log = Path(tempfile.mkdtemp(prefix="tunesmith-operator-")) / f"{name}.log"
        given = {
            "namespaces": namespace,
            "pod_namespace": namespace,
            "pod_name": name,
            "health_port": self.port,
            "progress_port": 0,
            "lease_seconds": 2,
            "log_format": "text",
            **settings,
        }
        variables = {f"TUNESMITH_{key.upper()}": str(value) for key, value in given.items()}
        self._environment = {**cluster.environment, **variables}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it is not waited for."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tunesmith_operator"], env=self._environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """Kill it as the kernel would (SIGKILL)."""
        self.signal(signal.SIGKILL)

    def stop(self) -> int:
        """End it as Kubernetes would (SIGTERM) and return its exit code."""
        return self.signal(signal.SIGTERM)

    def signal(self, number: int) -> int:
        """Send a signal, wait for the process's end and return its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(300)

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process is not None and self._process.poll() is None

    def get(self, path: str) -> str:
        """Return what its health port answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def wait_ready(self, timeout: float = 300) -> None:
        """Wait until /readyz answers with 200."""
        deadline = time.monotonic() + timeout
        while True:
            with suppress(OSError):
                self.get("/readyz")
                return
            assert self.running(), self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)


P = TypeVar("P", bound=OperatorProcess)


@contextmanager
def running(process: P) -> Iterator[P]:
    """Run a replica for the time of a `with` block; at a failure what it printed is shown."""
    process.start()
    try:
        process.wait_ready()
        yield process
    except BaseException:
        print(process.log.read_text()[-20_000:])
        raise
    finally:
        if process.running():
            process.stop()
        shutil.rmtree(process.log.parent)


def operator(cluster: Cluster, namespace: str, **settings: Any) -> AbstractContextManager[OperatorProcess]:
    """Run an operator for the time of a `with` block."""
    return running(OperatorProcess(cluster, namespace, **settings))
