"""Two jobs publish adapters on one base, and one workspace serves both: the second comes while its server runs."""

import time
from typing import Any

import httpx
import pytest

from cluster.client import Cluster, condition
from support.manifests import Object, config_map, job, workspace
from support.operator import serves, service_url, succeeded, wait_until
from support.s3_server import BUCKET, S3Server
from support.steady_load import Load

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LABELS = {"base": "support"}
STORE = {"name": "store"}
QUESTION = {"messages": [{"role": "user", "content": "What is a and u?"}], "max_tokens": 4, "temperature": 0}


def adapter_job(name: str, **training: Any) -> Object:
    """A job on the same base as all others: a model from scratch is the same for the same rows and seed."""
    made = job(
        name,
        method="lora",
        adapter={"rank": 4},
        training={"maxSteps": 12, "learningRate": 0.01, "globalBatchSize": 8, "maxLength": 128, **training},
        export={"adapterOnly": True, "precisions": ["fp32"], "baseUri": f"s3://{BUCKET}/bases/tiny"},
        storage={"uri": f"s3://{BUCKET}/work", "secretRef": STORE},
    )
    made["metadata"]["labels"] = LABELS
    return made


def adapters(cluster: Cluster, namespace: str, timeout: float = 300, **wanted: str) -> Object:
    """Wait until the adapters of the workspace have these states, and return it."""

    def is_there(obj: Object) -> bool:
        return {item["name"]: item["state"] for item in obj["status"].get("adapters") or ()} == wanted

    return cluster.wait("InferenceWorkspace", "support", is_there, namespace, timeout=timeout)


def ask(url: str, model: str) -> httpx.Response:
    return httpx.post(f"{url}/chat/completions", json={"model": model, **QUESTION}, timeout=300)


def models(url: str) -> set[str]:
    return {item["id"] for item in httpx.get(f"{url}/models", timeout=300).raise_for_status().json()["data"]}


def test_two_adapters_behind_one_workspace(installed: Cluster, namespace: str, store: S3Server) -> None:
    cluster = installed
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": STORE, "stringData": store.variables}
    served = workspace(
        "support", model={"fineTuneJob": "first"}, adapterSelector={"matchLabels": LABELS}, resources={"cpu": "500m"}
    )
    cluster.apply([secret, config_map("first"), adapter_job("first"), served], namespace)
    first = succeeded(cluster, namespace, "first")["status"]["artifact"]
    assert first["base"]["uri"] == f"s3://{BUCKET}/bases/tiny"
    revision = first["base"]["digest"].removeprefix("sha256:")[:10]
    serves(cluster, namespace, "support", revision)
    adapters(cluster, namespace, first="Loaded")
    url = service_url(cluster, namespace, "support")
    assert models(url) == {"support", "first"}
    (pod,) = cluster.list("Pod", namespace, labels="tunesmith.dev/owner-name=support")

    # The second is trained and comes, while the server answers.
    cluster.apply([config_map("second"), adapter_job("second", maxSteps=16)], namespace)
    second = succeeded(cluster, namespace, "second")
    ended = time.monotonic()
    assert second["status"]["artifact"]["base"] == first["base"]
    with Load(f"{url}/chat/completions", {"model": "first", **QUESTION}) as load:
        wait_until("the second adapter answers", lambda: ask(url, "second").status_code == 200)
        took = time.monotonic() - ended
        found = adapters(cluster, namespace, first="Loaded", second="Loaded")
    print(f"{took:.1f} s from the end of the job to its adapter's first answer")
    assert set(load.answers) == {"200"}, load.answers
    assert condition(found, "AdaptersReady")["status"] == "True"
    assert models(url) == {"support", "first", "second"}
    for name in ("support", "first", "second"):
        reply = ask(url, name).raise_for_status().json()
        assert (reply["model"], reply["usage"]["completion_tokens"] > 0) == (name, True)

    cluster.delete("FineTuneJob", "second", namespace)
    adapters(cluster, namespace, first="Loaded")
    wait_until("the second is no longer served", lambda: models(url) == {"support", "first"})
    assert ask(url, "second").status_code == 404
    assert ask(url, "first").status_code == 200
    (same,) = cluster.list("Pod", namespace, labels="tunesmith.dev/owner-name=support")
    assert same["metadata"]["uid"] == pod["metadata"]["uid"]
    statuses = [*same["status"]["containerStatuses"], *same["status"]["initContainerStatuses"]]
    assert [status["restartCount"] for status in statuses] == [0] * len(statuses)
