"""pytest fixtures for clusters, as a plugin that tests/conftest.py names.

A test run holds a cluster from its first use to its end. The workers of pytest-xdist hold it in the name of the process
that started them, so it stays until the last of them has ended. A run that was killed holds nothing: the next one takes
over what it left, and stops it at its end.
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import binaries, lifecycle
from cluster.client import CRDS, Cluster, condition
from cluster.errors import CannotRunError
from cluster.paths import cache
from cluster.processes import Process
from cluster.state import State
from support.cluster_dump import describe

KEEP = "TUNESMITH_KEEP_CLUSTER"
CONTEXT = "TUNESMITH_E2E_CONTEXT"


@contextmanager
def turn(*, alone: bool = False) -> Iterator[None]:
    """Hold the cluster that runs pods: several tests at once, or one alone that changes what all of them need."""
    with (cache() / "turns.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@pytest.fixture(autouse=True)
def its_turn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let a test that uses the fixture `alone` run while no other test with pods does."""
    if request.node.get_closest_marker("e2e") is None:
        yield
        return
    with turn(alone="alone" in request.fixturenames):
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    """Tell a worker in whose name it holds clusters."""
    node.workerinput["cluster_holder"] = os.getpid()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Release what this run holds, once all workers have ended, and what a killed one left."""
    folder = cache() / "clusters"
    if hasattr(config, "workerinput") or not folder.exists():
        return
    me = Process.of(os.getpid())
    for path in folder.glob("*/cluster.json"):
        state = State.load(path.parent.name)
        if state and not any(holder.alive() and holder != me for holder in state.holders):
            lifecycle.release(state.name, me)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """Put what is in the test's namespace beside a failure."""
    report = yield
    arguments = getattr(item, "funcargs", {})
    if report.failed and call.when == "call" and "namespace" in arguments and "cluster" in arguments:
        namespace = arguments["namespace"]
        try:
            text = describe(arguments["cluster"], namespace)
        except Exception as error:
            text = f"could not be read: {error!r}"
        report.sections.append((f"namespace {namespace}", text))
    return report


def start(config: pytest.Config, name: str, mode: str, **options) -> Cluster:
    """Start an embedded cluster, or use the one that runs, until the end of the test run; skip where it cannot run."""
    pid = getattr(config, "workerinput", {}).get("cluster_holder", os.getpid())
    try:
        kept = bool(os.environ.get(KEEP))
        cluster = cluster_of(lifecycle.up(name, mode, kept=kept, holder=Process.of(pid), **options))
    except CannotRunError as reason:
        pytest.skip(str(reason))
    install_crds(cluster)
    return cluster


def cluster_of(state: State) -> Cluster:
    """Return a client of an embedded cluster.

    Raises:
        CannotRunError: This machine cannot have its kubectl.
    """
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    kubectl = shutil.which("kubectl", path=assets) or binaries.kubernetes() / "kubectl"
    return Cluster(state.paths.kubeconfig, str(kubectl), name=state.name, runs_pods=state.mode == "full")


def install_crds(cluster: Cluster) -> None:
    """Apply this checkout's CRDs and wait until objects of them are taken."""
    for path in sorted(CRDS.glob("*.yaml")):
        for obj in cluster.apply(path):
            name = obj["metadata"]["name"]
            cluster.wait(
                "CustomResourceDefinition", name, lambda crd: condition(crd, "Established").get("status") == "True"
            )


@pytest.fixture(scope="session")
def api_cluster(pytestconfig: pytest.Config) -> Cluster:
    """A control plane with our CRDs, shared by all workers. Nothing runs pods, so tests write what a kubelet would."""
    return start(pytestconfig, "api", "api")


@pytest.fixture(scope="session")
def full_cluster(pytestconfig: pytest.Config) -> Cluster:
    """A cluster that runs pods, with our CRDs, shared by all workers; or the one that `TUNESMITH_E2E_CONTEXT` names."""
    if context := os.environ.get(CONTEXT):
        kubeconfig = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
        kubectl = shutil.which("kubectl") or str(binaries.kubernetes() / "kubectl")
        cluster = Cluster(Path(kubeconfig), kubectl, context, runs_pods=True)
        install_crds(cluster)
        return cluster
    return start(pytestconfig, "full", "full")


@pytest.fixture
def private_api_cluster(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """A control plane of this test's own, to stop parts of it."""
    name = f"private-{uuid.uuid4().hex[:8]}"
    yield start(pytestconfig, name, "api")
    lifecycle.down(name)


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """The shared cluster for this test: the full one for tests marked `e2e`, else the control plane."""
    kind = "full_cluster" if request.node.get_closest_marker("e2e") else "api_cluster"
    return request.getfixturevalue(kind)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """The name of a fresh namespace that enforces Pod Security `restricted`, deleted at the end."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "tunesmith.dev/test": "true"}
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    cluster.wait("ServiceAccount", "default", lambda account: True, name)
    yield name
    path = cluster.http.resource("Pod").path(name)
    cluster.http.request("DELETE", path, gracePeriodSeconds=1 if cluster.runs_pods else 0)
    cluster.delete("Namespace", name)
