"""Serving in pods: a rollout under load loses nothing, and an artifact that is not what it was is refused."""

import time
from typing import Any

import pytest

from cluster.client import Cluster, condition
from cluster_demo.pods import operator_image, pod_with_volume, run_pod
from support.manifests import ROWS, config_map, job, workspace
from support.operator import (
    ended,
    serves,
    service_url,
    succeeded,
)
from support.steady_load import RATE, Load

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def chat_load(cluster: Cluster, namespace: str) -> Load:
    """Requests to the workspace `model`."""
    body = {"model": "model", "messages": [{"role": "user", "content": "What is a and u?"}], "max_tokens": 4}
    return Load(f"{service_url(cluster, namespace, 'model')}/chat/completions", body)


def train(cluster: Cluster, namespace: str, specs: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Run jobs side by side and return them."""
    for name, spec in specs.items():
        cluster.apply([config_map(name, ROWS), job(name, **spec)], namespace)
    return [succeeded(cluster, namespace, name) for name in specs]


def revision_of(found: dict[str, Any]) -> str:
    return found["status"]["artifact"]["digest"].removeprefix("sha256:")[:10]


def test_rollouts(installed: Cluster, namespace: str) -> None:
    cluster = installed
    other = {"learningRate": 0.003, "maxLength": 128}
    first, second, flipped = train(
        cluster,
        namespace,
        {
            "first": {},
            "second": {"training": {**other, "maxSteps": 14}},
            "flipped": {"training": {**other, "maxSteps": 15}},
        },
    )
    assert len({revision_of(trained) for trained in (first, second, flipped)}) == 3
    served = workspace("model", model={"fineTuneJob": "first"}, resources={"cpu": "500m"})
    served["spec"]["runtime"]["maxQueueLength"] = 256
    cluster.apply(served, namespace)
    before = serves(cluster, namespace, "model", revision_of(first))
    assert before["status"]["endpoint"] == f"http://model.{namespace}.svc.cluster.local/v1"

    served["spec"]["model"] = {"fineTuneJob": "second"}
    with chat_load(cluster, namespace) as load:
        time.sleep(1)
        cluster.apply(served, namespace)
        after = serves(cluster, namespace, "model", revision_of(second))
        cluster.wait_all("Pod", lambda pods: len(pods) == 1, namespace, labels="tunesmith.dev/owner-name=model")
        time.sleep(1)
    assert after["status"]["previousRevision"] == revision_of(first)
    assert [entry["revision"] for entry in after["status"]["history"]] == [revision_of(first), revision_of(second)]
    assert set(load.answers) == {"200"}, load.answers
    assert load.answers["200"] > RATE

    flip_a_byte(cluster, namespace, "flipped-work")
    served["spec"]["model"] = {"fineTuneJob": "flipped"}
    cluster.apply(served, namespace)
    blocked = cluster.wait(
        "InferenceWorkspace", "model", lambda obj: condition(obj, "Stalled").get("status") == "True", namespace,
    )  # fmt: skip
    ready = condition(blocked, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "RolloutBlocked")
    assert "sha256" in ready["message"] or "digest" in ready["message"]
    assert blocked["status"]["revision"] == revision_of(second)
    assert blocked["status"]["readyReplicas"] == 1
    with chat_load(cluster, namespace) as load:
        time.sleep(2)
    assert set(load.answers) == {"200"}, load.answers

    # Back to what was served before: it recovers by itself.
    served["spec"]["model"] = {"fineTuneJob": "second"}
    cluster.apply(served, namespace)
    serves(cluster, namespace, "model", revision_of(second))


def flip_a_byte(cluster: Cluster, namespace: str, claim: str) -> None:
    """Change one byte in the middle of the exported weights."""
    code = (
        "import glob; path = glob.glob('/work/*/artifact/onnx/fp32/model.onnx.data')[0]; file = open(path, 'r+b'); "
        "file.seek(1000); byte = file.read(1); file.seek(1000); file.write(bytes([byte[0] ^ 1])); file.close()"
    )
    pod = pod_with_volume(namespace, claim, operator_image(cluster), f'python -c "{code}"', read_only=False)
    run_pod(cluster, pod)


def test_a_job_that_fails_its_gate_is_not_served(installed: Cluster, namespace: str) -> None:
    gate = {"maxRows": 4, "maxNewTokens": 8, "gates": [{"metric": "exactMatch", "min": 1.0}]}
    installed.apply([config_map("poor"), job("poor", evaluation=gate), workspace("poor")], namespace)
    failed = ended(installed, namespace, "poor")
    assert condition(failed, "Ready")["reason"] == "GateFailed"
    assert "exactMatch" in condition(failed, "Ready")["message"]
    waiting = ended(installed, namespace, "poor", kind="InferenceWorkspace")
    assert condition(waiting, "Ready")["status"] == "False"
    assert "GateFailed" in condition(waiting, "Ready")["message"]
    assert not installed.find("Deployment", "poor", namespace)
