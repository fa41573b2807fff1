"""A real API server for the jobs of a fleet, which is killed and started again, with a stand-in for the operator."""

import os
import random
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster import lifecycle, startup
from cluster.client import Cluster
from cluster.errors import ClusterError
from cluster.processes import Process
from cluster.state import State
from support.cluster_fixtures import cluster_of, install_crds
from support.etcd_history import KEEP_HISTORY, history_of
from support.hosted_cluster import Rights, rights
from support.job_history import Entry
from support.operator import wait_until
from support.standin_operator import StandinOperator

_MOST_PAUSE = 1.0
_MOST_START = 300.0


class ApiServer:
    """A real API server with its etcd, and the rights that the chart gives the service there."""

    name = "kube-apiserver"

    def __init__(self, cluster: Cluster, given: Rights, secrets: Path, etcd: str) -> None:
        self.cluster = cluster
        self.options: list[str] = []
        self.environment = {"KUBECONFIG": str(given.kubeconfig)}
        self.settings = {"namespace_prefix": given.prefix, "cluster": {**given.settings, "secrets": str(secrets)}}
        self._etcd = etcd

    def interrupt(self, choice: random.Random) -> None:
        """Kill it, and start it again over the same etcd; returns when it is ready."""
        state = State.load(str(self.cluster.name))
        assert state is not None
        os.kill(state.processes[self.name].pid, signal.SIGKILL)
        self.cluster.stop_api_server()
        time.sleep(choice.uniform(0.0, _MOST_PAUSE))
        try:
            self.cluster.start_api_server()
        except ClusterError:  # it takes longer where much else runs
            wait_until("the API server", lambda: startup.ready(state), _MOST_START)

    def history(self) -> list[Entry]:
        """Return what its etcd has kept of the jobs."""
        return history_of(self.cluster, self._etcd)


@contextmanager
def running_api_server(folder: Path, seconds: tuple[float, float]) -> Iterator[ApiServer]:
    """Run an API server of one's own, with a stand-in for the operator, until the end of the context.

    Args:
        folder: For the service's kubeconfig, and a Secret that projects get.
        seconds: The shortest and the longest time that a job takes.

    Raises:
        CannotRunError: This machine cannot run it.
    """
    name = f"load-{uuid.uuid4().hex[:8]}"
    state = lifecycle.up(name, "api", kept=False, api_server=[KEEP_HISTORY], holder=Process.of(os.getpid()))
    try:
        cluster = cluster_of(state)
        install_crds(cluster)
        secrets = folder / "secrets"
        (secrets / "store").mkdir(parents=True)
        (secrets / "store" / "AWS_ACCESS_KEY_ID").write_text("of-tests-only")
        with rights(cluster, folder) as given, StandinOperator(cluster, given.prefix, seconds).running():
            yield ApiServer(cluster, given, secrets, f"http://127.0.0.1:{state.port('etcd')}")
    finally:
        lifecycle.down(name)
