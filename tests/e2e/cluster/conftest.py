"""The operator in the full cluster, once for all tests."""

import fcntl
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.client import Cluster, condition
from cluster.errors import CannotRunError
from cluster.network import GATEWAY
from cluster.paths import cache
from cluster.requests import Object
from cluster_demo.install import NAMESPACE, install
from support.cluster_fixtures import turn
from support.s3_server import S3Server, s3_server

LABELS = "app.kubernetes.io/name=tunesmith"


@pytest.fixture(scope="session")
def installed(full_cluster: Cluster) -> Iterator[Cluster]:
    """The full cluster with this checkout's images in it and its chart installed; skips where that cannot be had.

    At the end, nothing that the tests made the operator do was forbidden to it.
    """
    # The workers of pytest-xdist take turns; the second finds it done.
    with turn(), (cache() / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            install(full_cluster)
        except CannotRunError as reason:
            pytest.skip(str(reason))
    yield full_cluster
    with turn():
        assert forbidden(full_cluster) == []


@pytest.fixture
def alone(full_cluster: Cluster) -> Iterator[None]:
    """No operator but the test's own: that of the chart, if it is installed, would handle the same objects."""
    found = full_cluster.list("Deployment", NAMESPACE, labels=LABELS)
    if not found:
        yield
        return
    (deployment,) = found
    assert forbidden(full_cluster) == []  # its pods take what they have counted with them
    scale(full_cluster, deployment, 0)
    yield
    scale(full_cluster, deployment, deployment["spec"]["replicas"])


@pytest.fixture
def store(installed: Cluster, tmp_path: Path) -> Iterator[S3Server]:
    """An object store that pods reach."""
    if installed.name is None:
        pytest.skip("The object store is a process of this machine, which the pods of another cluster do not reach.")
    with s3_server(tmp_path, GATEWAY) as server:
        yield server


def scale(cluster: Cluster, deployment: Object, replicas: int) -> None:
    """Run as many pods of the installed operator, and wait until they are ready and all others are gone."""
    cluster.patch("Deployment", deployment["metadata"]["name"], {"spec": {"replicas": replicas}}, NAMESPACE)

    def settled(pods: list[Object]) -> bool:
        ready = [pod for pod in pods if condition(pod, "Ready").get("status") == "True"]
        return len(pods) == len(ready) == replicas

    cluster.wait_all("Pod", settled, NAMESPACE, labels=LABELS)


def forbidden(cluster: Cluster) -> list[str]:
    """The requests that were refused to the operator's pods for lack of rights, as their metrics count them."""
    found = []
    pods = cluster.list("Pod", NAMESPACE, labels=LABELS)
    assert pods, f"there is no pod of the operator in {NAMESPACE}"
    for pod in pods:
        ports = pod["spec"]["containers"][0]["ports"]
        port = next(port["containerPort"] for port in ports if port["name"] == "metrics")
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}:{port}/proxy/metrics"
        metrics = cluster.run("get", "--raw", path)
        assert re.search(r"^tunesmith_api_requests_total\{", metrics, re.MULTILINE), f"{path} counts no requests"
        found += re.findall(r"^tunesmith_api_denied_total\{.*", metrics, re.MULTILINE)
    return found
