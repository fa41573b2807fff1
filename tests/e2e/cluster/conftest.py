"""The operator in the full cluster, once for all tests."""

import fcntl
import re
from collections.abc import Iterator

import pytest

from cluster.client import Cluster
from cluster.errors import CannotRunError
from cluster.paths import cache
from cluster_demo.install import NAMESPACE, install


@pytest.fixture(scope="session")
def installed(full_cluster: Cluster) -> Iterator[Cluster]:
    """The full cluster with this checkout's images in it and its chart installed; skips where that cannot be had.

    At the end, nothing that the tests made the operator do was forbidden to it.
    """
    # The workers of pytest-xdist take turns; the second finds it done.
    with (cache() / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            install(full_cluster)
        except CannotRunError as reason:
            pytest.skip(str(reason))
    yield full_cluster
    assert forbidden(full_cluster) == []


def forbidden(cluster: Cluster) -> list[str]:
    """The requests that were refused to the operator's pods for lack of rights, as their metrics count them."""
    found = []
    pods = cluster.list("Pod", NAMESPACE, labels="app.kubernetes.io/name=tunesmith")
    assert pods, f"there is no pod of the operator in {NAMESPACE}"
    for pod in pods:
        ports = pod["spec"]["containers"][0]["ports"]
        port = next(port["containerPort"] for port in ports if port["name"] == "metrics")
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}:{port}/proxy/metrics"
        metrics = cluster.run("get", "--raw", path)
        assert re.search(r"^tunesmith_api_requests_total\{", metrics, re.MULTILINE), f"{path} counts no requests"
        found += re.findall(r"^tunesmith_api_denied_total\{.*", metrics, re.MULTILINE)
    return found
