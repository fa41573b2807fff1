"""A job that fails in publish goes on there with a changed manifest: what was trained is not trained again."""

import pytest

from cluster.client import Cluster, condition
from cluster_demo.pods import read_volume
from support.manifests import config_map, job
from support.operator import ended, stage_pods

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STEPS = {"maxSteps": 8, "learningRate": 0.01, "globalBatchSize": 8, "maxLength": 128, "precision": "fp32"}


def test_a_gate_and_a_bound_are_widened_and_the_output_changed_after_one_training(
    installed: Cluster, namespace: str
) -> None:
    def apply(**spec: object) -> None:
        installed.apply([job("late", training=STEPS, **spec)], namespace)

    def end(generation: int) -> dict:
        """Wait until the operator has seen a change, and the job has ended after it."""
        installed.wait("FineTuneJob", "late", lambda o: o["status"]["observedGeneration"] == generation, namespace, 60)
        return ended(installed, namespace, "late")

    fp32 = {"precisions": ["fp32"]}
    closed, wide = {"maxRows": 4, "gates": [{"metric": "evalLoss", "max": 1e-6}]}, {"maxRows": 4}
    installed.apply([config_map("late")], namespace)
    apply(evaluation=closed, export=fp32)
    first = end(1)
    assert condition(first, "Ready")["reason"] == "GateFailed"
    trained = weights(installed, namespace)

    # No two implementations agree to 1e-12.
    apply(evaluation=wide, export={**fp32, "parity": {"maxLogitDifference": 1e-12}})
    second = end(2)
    assert condition(second, "Ready")["reason"] == "ParityFailed"
    assert condition(second, "Stalled")["status"] == "True"

    apply(evaluation=wide, export=fp32, output={"uri": "./published"})
    third = end(3)
    assert third["status"]["phase"] == "Succeeded"
    assert third["status"]["attempts"] == {"prepare": 1, "train": 1, "publish": 3}
    jobs = installed.list("Job", namespace, labels="tunesmith.dev/owner-name=late")
    assert sorted(item["metadata"]["name"] for item in jobs) == [
        *("late-prepare-1", "late-publish-1", "late-publish-2", "late-publish-3", "late-train-1")
    ]
    assert len(stage_pods(installed, namespace, "late", "train")) == 1
    assert weights(installed, namespace) == trained
    assert third["status"]["artifact"]["uri"] == "pvc://late-work/published"
    assert "manifest.json" in read_volume(installed, namespace, "late-work", "ls /work/published")


def weights(cluster: Cluster, namespace: str) -> str:
    """Digests and times of the files that training has left."""
    command = "cd /work/*/train/final && sha256sum * && stat -c '%n %Y' *"
    return read_volume(cluster, namespace, "late-work", command)
