"""Whatever ends the operator, and whenever: every job ends right, made once, and no status goes back."""

import random
import time

import pytest

from cluster.client import Cluster
from support.fake_kubelet import FakeKubelet
from support.manifests import config_map, job
from support.operator import has_ended
from support.operator_process import operator
from support.status_recorder import PHASES, StatusRecorder

pytestmark = [pytest.mark.integration, pytest.mark.slow]

JOBS = 10
KILLS = 5
SEED = 20_261_124


def apply_jobs(cluster: Cluster, namespace: str, count: int = JOBS) -> list[str]:
    names = [f"job-{number}" for number in range(count)]
    cluster.apply([config_map("shared")], namespace)
    for name in names:
        manifest = job(name)
        manifest["spec"]["dataset"]["sources"][0]["configMapKeyRef"]["name"] = "shared-data"
        cluster.apply(manifest, namespace)
    return names


def all_ended(cluster: Cluster, namespace: str, count: int = JOBS, timeout: float = 300) -> None:
    cluster.wait_all(
        "FineTuneJob",
        lambda objects: len(objects) == count and all(map(has_ended, objects)),
        namespace,
        timeout=timeout,
    )


def check(cluster: Cluster, namespace: str, names: list[str], recorder: StatusRecorder) -> None:
    """Every job has succeeded, with one Job a stage, and nothing is left when they are deleted."""
    assert recorder.backwards == []
    for name in names:
        found = cluster.get("FineTuneJob", name, namespace)
        assert found["status"]["phase"] == "Succeeded", found["status"]
        assert found["status"]["attempts"] == {"prepare": 1, "train": 1, "publish": 1}
        assert recorder.phases[name] == [phase for phase in PHASES if phase in recorder.phases[name]]
    jobs = sorted(item["metadata"]["name"] for item in cluster.list("Job", namespace))
    assert jobs == sorted(f"{name}-{stage}-1" for name in names for stage in ("prepare", "train", "publish"))
    claims = sorted(item["metadata"]["name"] for item in cluster.list("PersistentVolumeClaim", namespace))
    assert claims == sorted(f"{name}-work" for name in names)
    for name in names:
        cluster.delete("FineTuneJob", name, namespace)
    cluster.wait_all("FineTuneJob", lambda objects: not objects, namespace)
    for kind in ("Job", "Pod", "Service"):
        cluster.wait_all(kind, lambda objects: not objects, namespace, labels="tunesmith.dev/owner-uid")
    # What is kept is the artifacts: output.retain is true.
    assert len(cluster.list("PersistentVolumeClaim", namespace)) == len(names)


def test_killed_at_random_moments(cluster: Cluster, namespace: str) -> None:
    chance = random.Random(SEED)
    with (
        operator(cluster, namespace) as process,
        StatusRecorder(cluster, namespace) as recorder,
        FakeKubelet(cluster, namespace, SEED, longest=6.0),
    ):
        names = apply_jobs(cluster, namespace)
        kills = 0
        # An operator with nothing left to do is killed once at most: that shows nothing more.
        while not all(map(has_ended, cluster.list("FineTuneJob", namespace))):
            process.wait_ready()
            # The last one's lease lasts 2 s longer than it: some are killed before they work, some while they do.
            time.sleep(chance.uniform(0, 4))
            process.kill()
            process.start()
            kills += 1
        assert kills >= KILLS
        check(cluster, namespace, names, recorder)


def test_the_api_server_away_for_a_minute(private_api_cluster: Cluster) -> None:
    cluster, namespace = private_api_cluster, "default"
    with (
        operator(cluster, namespace),
        StatusRecorder(cluster, namespace) as recorder,
        FakeKubelet(cluster, namespace, SEED, longest=2.0),
    ):
        names = apply_jobs(cluster, namespace, 3)
        cluster.wait_all("Job", lambda jobs: len(jobs) >= 4, namespace)
        cluster.stop_api_server()
        time.sleep(60)
        cluster.start_api_server()
        all_ended(cluster, namespace, 3)
        check(cluster, namespace, names, recorder)


def test_the_leader_killed_the_other_goes_on(cluster: Cluster, namespace: str) -> None:
    with (
        operator(cluster, namespace, name="first") as first,
        operator(cluster, namespace, name="second") as second,
        StatusRecorder(cluster, namespace) as recorder,
        FakeKubelet(cluster, namespace, SEED, longest=2.0),
    ):
        holder = cluster.get("Lease", "tunesmith-operator", namespace)["spec"]["holderIdentity"]
        leader, other = (first, second) if holder.startswith("first") else (second, first)
        names = apply_jobs(cluster, namespace, 3)
        cluster.wait_all("Job", lambda jobs: len(jobs) >= 3, namespace)
        leader.kill()
        cluster.wait(
            "Lease", "tunesmith-operator",
            lambda lease: (lease["spec"].get("holderIdentity") or "").startswith(other.name), namespace,
        )  # fmt: skip
        all_ended(cluster, namespace, 3)
        check(cluster, namespace, names, recorder)
