"""The engine when things end: it itself, its leader, the API server, the CRDs."""

import time
from pathlib import Path
from typing import Any

import pytest

from cluster.client import CRDS, Cluster, condition
from support.engine_process import engine
from support.manifests import job

pytestmark = pytest.mark.integration

LEASE = "tunesmith-operator"


def works(obj: dict[str, Any]) -> bool:
    return condition(obj, "Ready").get("reason") == "Working"


def all_work(count: int) -> Any:
    return lambda objects: len(objects) == count and all(map(works, objects))


def held_by(name: str) -> Any:
    return lambda lease: lease["spec"].get("holderIdentity") == name


def wait_for(value: Any, timeout: float = 300) -> None:
    """Poll a page of the operator, which cannot be watched."""
    deadline = time.monotonic() + timeout
    while not value():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.05)


def test_killed_in_the_middle_it_makes_every_child_once(cluster: Cluster, namespace: str, start: Any) -> None:
    # The second has the first's name, as a container that is started again in its pod: the lease is its own.
    count = 60
    first = start()
    cluster.wait("Lease", LEASE, held_by("replica"), namespace)
    cluster.apply([job(f"job-{number}") for number in range(count)], namespace)
    cluster.wait_all("Job", lambda jobs: len(jobs) >= 5, namespace)
    first.kill()
    seen = {obj["metadata"]["name"]: obj["metadata"]["uid"] for obj in cluster.list("Job", namespace)}
    start()
    cluster.wait_all("FineTuneJob", all_work(count), namespace)
    jobs = {obj["metadata"]["name"]: obj["metadata"]["uid"] for obj in cluster.list("Job", namespace)}
    assert sorted(jobs) == sorted(f"job-{number}-prepare-1" for number in range(count))
    assert {name: jobs[name] for name in seen} == seen
    assert len(cluster.list("Service", namespace)) == count


def test_the_leader_killed_the_other_takes_over_after_the_lease(cluster: Cluster, namespace: str, start: Any) -> None:
    leader = start("first", lease_seconds=3)
    cluster.wait("Lease", LEASE, held_by("first"), namespace)
    standby = start("second", lease_seconds=3)
    wait_for(lambda: standby.get("/readyz")[0] == 200)
    cluster.apply(job("a"), namespace)
    cluster.wait("FineTuneJob", "a", works, namespace)
    assert (leader.metric("tunesmith_leader"), standby.metric("tunesmith_leader")) == (1, 0)
    assert standby.metric('tunesmith_reconciles_total{kind="FineTuneJob",result="ok"}') == 0
    leader.kill()
    cluster.apply(job("b"), namespace)
    cluster.wait("FineTuneJob", "b", works, namespace)
    assert cluster.get("Lease", LEASE, namespace)["spec"]["holderIdentity"] == "second"
    assert standby.metric("tunesmith_leader") == 1


def test_a_leader_that_is_told_to_stop_hands_over_at_once(cluster: Cluster, namespace: str, start: Any) -> None:
    leader = start("first", lease_seconds=600)  # longer than this test waits
    cluster.wait("Lease", LEASE, held_by("first"), namespace)
    assert leader.terminate() == 0
    assert cluster.get("Lease", LEASE, namespace)["spec"]["holderIdentity"] == ""
    cluster.apply(job("a"), namespace)
    start("second", lease_seconds=600)
    cluster.wait("FineTuneJob", "a", works, namespace)


def test_one_whose_lease_is_taken_writes_nothing_more(cluster: Cluster, namespace: str, start: Any) -> None:
    process = start("first", lease_seconds=3)
    cluster.wait("Lease", LEASE, held_by("first"), namespace)
    wait_for(lambda: process.metric("tunesmith_leader") == 1)
    cluster.patch("Lease", LEASE, {"spec": {"holderIdentity": "other", "leaseDurationSeconds": 3600}}, namespace)
    wait_for(lambda: process.metric("tunesmith_leader") == 0)
    cluster.apply(job("a"), namespace)
    wait_for(lambda: process.metric('tunesmith_watch_events_total{kind="FineTuneJob"}') >= 1)
    assert "phase" not in cluster.get("FineTuneJob", "a", namespace).get("status", {})
    cluster.patch("Lease", LEASE, {"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}}, namespace)
    cluster.wait("FineTuneJob", "a", works, namespace)


@pytest.mark.slow
def test_the_api_server_away_and_back(private_api_cluster: Cluster, tmp_path: Path) -> None:
    cluster, namespace = private_api_cluster, "default"
    log = tmp_path / "log"
    with engine(cluster.environment, log, pod_namespace=namespace, pod_name="only", lease_seconds=5) as process:
        cluster.apply([job(f"before-{number}") for number in range(5)], namespace)
        cluster.wait_all("FineTuneJob", all_work(5), namespace)
        before = {obj["metadata"]["name"]: obj["metadata"]["uid"] for obj in cluster.list("Job", namespace)}
        cluster.stop_api_server()
        wait_for(lambda: process.metric("tunesmith_leader") == 0)  # It cannot renew, so it stops in time.
        time.sleep(5)
        assert process.get("/healthz")[0] == 200
        cluster.start_api_server()
        cluster.apply([job(f"after-{number}") for number in range(5)], namespace)
        cluster.delete("Service", "before-0", namespace)
        cluster.wait_all("FineTuneJob", all_work(10), namespace)
        cluster.wait("Service", "before-0", lambda obj: True, namespace)
        jobs = {obj["metadata"]["name"]: obj["metadata"]["uid"] for obj in cluster.list("Job", namespace)}
        assert {name: jobs[name] for name in before} == before
        assert len(jobs) == 10
        assert process.terminate() == 0


@pytest.mark.slow
def test_without_crds_it_says_so_and_waits(private_api_cluster: Cluster, tmp_path: Path) -> None:
    cluster, namespace = private_api_cluster, "default"
    names = ["finetunejobs.tunesmith.dev", "inferenceworkspaces.tunesmith.dev"]
    for name in names:
        cluster.delete("CustomResourceDefinition", name)
        cluster.wait_gone("CustomResourceDefinition", name)
    log = tmp_path / "log"
    with engine(cluster.environment, log, pod_namespace=namespace, leader_election=False) as process:
        wait_for(lambda: "install the CRDs" in log.read_text())
        assert process.get("/healthz")[0] == 200
        assert process.get("/readyz")[0] == 503
        for path in sorted(CRDS.glob("*.yaml")):
            cluster.apply(path)
        for name in names:
            cluster.wait(
                "CustomResourceDefinition", name, lambda crd: condition(crd, "Established").get("status") == "True"
            )
        wait_for(lambda: process.get("/readyz")[0] == 200)
        cluster.apply(job("a"), namespace)
        cluster.wait("FineTuneJob", "a", works, namespace)
        assert log.read_text().count("install the CRDs") <= 2
