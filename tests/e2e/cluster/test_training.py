"""Training in pods: on one node's worth and on two, taken away in the middle, and with too little memory."""

import json

import pytest

from cluster.client import Cluster, condition
from cluster_demo.pods import read_volume
from support.manifests import config_map, job
from support.operator import ended, stage_pods, succeeded
from support.training_pods import LONG, from_step, next_pod, wait_for_step

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SHARED = {"accessMode": "ReadWriteMany", "storageClassName": "tunesmith-shared", "size": "1Gi"}
STEPS = {"maxSteps": 8, "learningRate": 0.01, "globalBatchSize": 8, "maxLength": 128, "precision": "fp32"}


def losses(cluster: Cluster, namespace: str, name: str) -> list[float]:
    """The losses of all steps, from the job's work volume."""
    log = read_volume(cluster, namespace, f"{name}-work", "cat /work/*/train/training_log.jsonl")
    return [json.loads(line)["loss"] for line in log.splitlines() if '"loss"' in line]


def test_two_pods_learn_what_one_learns(installed: Cluster, namespace: str) -> None:
    shared = {"resources": {"nodes": 2}, "storage": SHARED}
    jobs = {"alone": {}, **{name: {**shared, "distributed": {"strategy": name}} for name in ("zero2", "zero3")}}
    for name, spec in jobs.items():
        installed.apply([config_map(name), job(name, training=STEPS, **spec)], namespace)
    succeeded(installed, namespace, "alone")
    expected = losses(installed, namespace, "alone")
    assert len(expected) == STEPS["maxSteps"]
    for strategy in ("zero2", "zero3"):
        found = succeeded(installed, namespace, strategy)
        assert found["status"]["resolved"]["processes"]["value"] == 2
        assert losses(installed, namespace, strategy) == pytest.approx(expected, abs=1e-4)
        ranks = {pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]
                 for pod in stage_pods(installed, namespace, strategy, "train")}  # fmt: skip
        assert ranks == {"0", "1"}


def test_a_pod_that_is_deleted_or_evicted_goes_on_from_its_checkpoint(installed: Cluster, namespace: str) -> None:
    installed.apply([config_map("long"), job("long", training=LONG)], namespace)
    wait_for_step(installed, namespace, "long", 20)
    (first,) = stage_pods(installed, namespace, "long", "train")
    installed.delete("Pod", first["metadata"]["name"], namespace)
    second = next_pod(installed, namespace, "long", first)
    resumed = from_step(installed, namespace, second)
    assert resumed >= 20

    wait_for_step(installed, namespace, "long", resumed + 40)
    evict(installed, namespace, second["metadata"]["name"])
    third = next_pod(installed, namespace, "long", second)
    assert from_step(installed, namespace, third) >= resumed + 20

    found = succeeded(installed, namespace, "long")
    assert found["status"]["progress"]["totalSteps"] == LONG["maxSteps"]
    log = read_volume(installed, namespace, "long-work", "cat /work/*/train/training_log.jsonl")
    steps = [json.loads(line)["step"] for line in log.splitlines() if '"loss"' in line]
    assert steps == list(range(1, LONG["maxSteps"] + 1))
    # Neither counts as a failure: all of it is one Job.
    jobs = installed.list("Job", namespace, labels="tunesmith.dev/stage=train")
    assert [item["metadata"]["name"] for item in jobs] == ["long-train-1"]


def evict(cluster: Cluster, namespace: str, name: str) -> None:
    """Evict a pod by the Eviction API, as a drain does."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    cluster.http.request("POST", cluster.http.resource("Pod").path(namespace, name) + "/eviction", body)


def test_too_little_memory_fails_with_a_remedy(installed: Cluster, namespace: str) -> None:
    stages = {"prepare": {"memory": "200Mi"}}
    installed.apply([config_map("small"), job("small", training=STEPS, stages=stages)], namespace)
    found = ended(installed, namespace, "small")
    ready = condition(found, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "OutOfMemory")
    assert condition(found, "Stalled")["status"] == "True"
    assert "raise stages.prepare.memory" in ready["message"].casefold()


def test_bad_data_fails_before_training(installed: Cluster, namespace: str) -> None:
    data = config_map("bad")
    data["data"]["rows.jsonl"] += '{"prompt": "half'
    installed.apply([data, job("bad", training=STEPS)], namespace)
    found = ended(installed, namespace, "bad")
    assert condition(found, "Ready")["reason"] == "InvalidDataset"
    assert "rows.jsonl:" in condition(found, "Ready")["message"]
    assert not stage_pods(installed, namespace, "bad", "train")
