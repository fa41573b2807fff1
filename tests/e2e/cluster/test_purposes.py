"""Workspaces of different tasks side by side in one cluster: gates, answers, and a rollout under load."""

import time
from typing import Any

import httpx
import pytest

from cluster.client import Cluster, condition
from support.example_rows import rows_of
from support.manifests import Object, config_map, job, workspace
from support.operator import ended, serves, service_url, succeeded
from support.steady_load import RATE, Load

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SIZES = {"hiddenSize": 64, "intermediateSize": 128, "numHiddenLayers": 2, "numAttentionHeads": 2, "vocabSize": 600}


def purpose(name: str, example: str, architecture: str, gate: dict[str, Any], steps: int) -> list[Object]:
    """The data and the job of an example's task, smaller than the example."""
    task = {"classification": "sequenceClassification", "translation": "translation"}[example]
    spec = {
        "model": {"scratch": {"architecture": architecture, "maxPositionEmbeddings": 128, **SIZES}},
        "task": task,
        "training": {"maxSteps": steps, "learningRate": 0.003, "globalBatchSize": 16, "maxLength": 64},
        "evaluation": {"maxRows": 24, "maxNewTokens": 32, "gates": [gate]},
    }
    return [config_map(name, rows_of(example)[0][:320]), job(name, **spec)]


def revision_of(found: Object) -> str:
    return str(found["status"]["artifact"]["digest"].removeprefix("sha256:")[:10])


def test_two_tasks_behind_one_cluster(installed: Cluster, namespace: str) -> None:
    cluster, accuracy = installed, {"metric": "accuracy", "min": 0.5}
    for objects in (
        purpose("queues", "classification", "bert", accuracy, 80),
        purpose("queues-next", "classification", "bert", accuracy, 90),
        purpose("words", "translation", "t5", {"metric": "chrf", "min": 10}, 80),
        purpose("poor", "translation", "t5", {"metric": "bleu", "min": 99}, 4),
    ):
        cluster.apply(objects, namespace)
    served = workspace("queues", runtime={})
    cluster.apply([served, workspace("words", runtime={}), workspace("poor", runtime={})], namespace)

    failed = ended(cluster, namespace, "poor")
    assert condition(failed, "Ready")["reason"] == "GateFailed"
    assert "bleu" in condition(failed, "Ready")["message"]
    assert not cluster.find("Deployment", "poor", namespace)

    first, second = (succeeded(cluster, namespace, name) for name in ("queues", "queues-next"))
    assert first["status"]["metrics"]["after"]["accuracy"] >= 0.5
    assert succeeded(cluster, namespace, "words")["status"]["metrics"]["after"]["chrf"] >= 10
    serves(cluster, namespace, "queues", revision_of(first))
    serves(cluster, namespace, "words")

    root = service_url(cluster, namespace, "queues").removesuffix("/v1")
    rows = rows_of("classification")[0][:8]
    answers = httpx.post(root, json={"inputs": [row["text"] for row in rows]}, timeout=300).json()
    best = [max(labels, key=lambda entry: entry["score"])["label"] for labels in answers]
    assert sum(found == row["label"] for found, row in zip(best, rows, strict=True)) >= 4
    other = service_url(cluster, namespace, "words").removesuffix("/v1")
    source = rows_of("translation")[0][0]["translation"]["de"]
    assert httpx.post(other, json={"inputs": source}, timeout=300).json()[0]["translation_text"].strip()

    served["spec"]["model"] = {"fineTuneJob": "queues-next"}
    with Load(root, {"inputs": rows[0]["text"]}) as load:
        time.sleep(1)
        cluster.apply(served, namespace)
        after = serves(cluster, namespace, "queues", revision_of(second))
        time.sleep(1)
    assert after["status"]["previousRevision"] == revision_of(first)
    assert set(load.answers) == {"200"}, load.answers
    assert load.answers["200"] > RATE
