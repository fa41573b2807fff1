"""A job and its server that share no volume: all of it is handed on in an object store, checkpoints too."""

import json
from typing import Any

import httpx
import pytest

from cluster.client import Cluster
from support.manifests import config_map, job, workspace
from support.operator import serves, service_url, stage_pods, succeeded, wait_until
from support.s3_server import BUCKET, S3Server
from support.training_pods import LONG, from_step

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STEPS = 300


def parts(store: S3Server) -> set[str]:
    """Return which pods have kept their part of a checkpoint: the names' ends."""
    folders = {name.split("/")[2] for name in store.names() if name.endswith("/complete.json") and name.count("/") == 3}
    return {f".{folder.partition('.')[2]}".rstrip(".") for folder in folders if folder.startswith("checkpoint-")}


def running(pods: list[dict[str, Any]], before: set[str]) -> list[dict[str, Any]]:
    """Return the pods that run, without those that were there before."""
    return [pod for pod in pods if pod["status"].get("phase") == "Running" and pod["metadata"]["uid"] not in before]


def test_a_job_goes_on_from_its_store_and_is_served_from_it(
    installed: Cluster, namespace: str, store: S3Server
) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}, "stringData": store.variables}
    storage = {"uri": f"s3://{BUCKET}/work", "secretRef": {"name": "store"}}
    long = job(
        "long", training={**LONG, "maxSteps": STEPS}, storage=storage,
        resources={"nodes": 2}, distributed={"strategy": "zero2"},
    )  # fmt: skip
    installed.apply([secret, config_map("long"), long, workspace("long", resources={"cpu": "500m"})], namespace)
    wait_until("a checkpoint of both pods in the store", lambda: parts(store) == {"", ".1"})
    pods = stage_pods(installed, namespace, "long", "train")
    assert len(pods) == 2
    before = {pod["metadata"]["uid"] for pod in pods}
    installed.delete("Pod", pods[1]["metadata"]["name"], namespace)
    # The other one ends too, and is replaced.
    after = installed.wait_all(
        "Pod",
        lambda found: len(running(found, before)) == 2,
        namespace,
        labels="tunesmith.dev/stage=train",
    )
    index = "batch.kubernetes.io/job-completion-index"
    (first,) = [pod for pod in running(after, before) if pod["metadata"]["labels"][index] == "0"]  # tells of progress
    assert from_step(installed, namespace, first) >= 20

    found = succeeded(installed, namespace, "long")
    prefix = f"work/long-{found['metadata']['uid'][:8]}"
    assert found["status"]["artifact"]["uri"] == f"s3://{BUCKET}/{prefix}/artifact"
    log = (store.folder / prefix / "artifact" / "training_log.jsonl").read_text()
    steps = [json.loads(line)["step"] for line in log.splitlines() if '"loss"' in line]
    assert steps == list(range(1, STEPS + 1))
    assert not any("/checkpoint-" in name for name in store.names())
    assert installed.list("PersistentVolumeClaim", namespace) == []

    serves(installed, namespace, "long")
    url = service_url(installed, namespace, "long")
    body = {"model": "long", "messages": [{"role": "user", "content": "What is a and u?"}], "max_tokens": 8}
    reply = httpx.post(f"{url}/chat/completions", json=body, timeout=300).raise_for_status().json()
    assert reply["usage"]["completion_tokens"] > 0
