"""OpenAI's client against the hosted API of the chart: from a file to the answer of the model that it has tuned."""

import json
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from cluster import binaries
from cluster.client import Cluster
from cluster.errors import CannotRunError
from cluster.network import GATEWAY
from cluster_demo.install import ROOT
from support.manifests import job as tiny_job
from support.postgres import Postgres, running
from support.s3_server import BUCKET, S3Server

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAME = "hosted-tunesmith-hosted"
_SPEC = tiny_job()["spec"]
BASE = {
    "name": "tiny",
    "model": _SPEC["model"],
    "method": "full",
    "context_length": 128,
    "job": {name: _SPEC[name] for name in ("training", "evaluation", "export")}
    | {"dataset": {"validation": {"fraction": 0.1}}},
    "workspace": {"runtime": {"precision": "fp32", "contextLength": 128, "maxBatchSize": 2}},
}
ROWS = [
    {"messages": [{"role": "user", "content": f"What is {a} and {b}?"}, {"role": "assistant", "content": f"{a}{b}."}]}
    for a in "abcdef"
    for b in "uvwxyz"
]


@pytest.fixture
def database() -> Iterator[Postgres]:
    try:
        with running(GATEWAY) as server:
            yield server
    except CannotRunError as reason:
        pytest.skip(f"no PostgreSQL: {reason}")


@pytest.fixture
def release(installed: Cluster, store: S3Server, database: Postgres, tmp_path: Path) -> Iterator[str]:
    """The namespace of a release that is the hosted API alone; the installed operator works for it."""
    id = uuid.uuid4().hex[:6]
    namespace, prefix = f"hosted-{id}", f"h{id}-"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    secrets = {"database": {"url": database.create_database()}, "store": store.variables}
    installed.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})
    for name, data in secrets.items():
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
        installed.create(secret, namespace)
    hosted = {
        "enabled": True,
        "replicas": 2,
        "database": {"existingSecret": "database"},
        "files": {"uri": f"s3://{BUCKET}/files", "existingSecret": "store"},
        "bases": [BASE],
        "projects": {"namespacePrefix": prefix},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
    }
    values = tmp_path / "values.json"
    values.write_text(
        json.dumps({"replicas": 0, "crds": {"install": False}, "rbac": {"aggregate": False}, "hosted": hosted})
    )
    command = [
        str(binaries.helm()), "install", "hosted", str(ROOT / "helm" / "tunesmith"), "-n", namespace, "-f", str(values),
        "--wait", "--timeout", "180s",
    ]  # fmt: skip
    done = subprocess.run(command, env=installed.environment, capture_output=True, text=True)
    try:
        if done.returncode:
            pods = installed.run("describe", "pods", "-n", namespace, check=False)
            logs = installed.run("logs", "-n", namespace, "-l", "app.kubernetes.io/instance=hosted", check=False)
            raise AssertionError(f"helm:\n{done.stdout}{done.stderr}\n{pods}\n{logs}")
        yield namespace
    finally:
        helm = [str(binaries.helm()), "uninstall", "hosted", "-n", namespace]
        subprocess.run(helm, env=installed.environment, capture_output=True)
        for item in installed.list("Namespace"):
            if item["metadata"]["name"].startswith((prefix, namespace)):
                installed.delete("Namespace", item["metadata"]["name"])


def administer(cluster: Cluster, namespace: str, *arguments: str) -> str:
    """Run the service's command in one of its pods, as the chart's notes say."""
    command = ["python", "-m", "tunesmith_hosted", "--config", "/etc/tunesmith/hosted.yaml", *arguments]
    return cluster.run("exec", "-n", namespace, f"deploy/{NAME}", "--", *command)


def refused(cluster: Cluster, namespace: str) -> list[str]:
    """Return what the pods count of requests to the API server that they may not send."""
    found = []
    pods = cluster.list("Pod", namespace, labels="app.kubernetes.io/component=hosted")
    for pod in pods:
        metrics = cluster.run("exec", "-n", namespace, pod["metadata"]["name"], "--", "python", "-c", _METRICS)
        assert "tunesmith_hosted_kubernetes_requests_total{" in metrics
        found += re.findall(r'^tunesmith_hosted_kubernetes_requests_total\{.*status="40[13]".*', metrics, re.MULTILINE)
    return found


_METRICS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/metrics').read().decode())"


def test_a_file_becomes_a_model_that_answers(installed: Cluster, release: str) -> None:
    administer(installed, release, "projects", "create", "acme/research")
    key = administer(installed, release, "keys", "create", "acme/research").partition("api_key=")[2].strip()
    service = installed.get("Service", NAME, release)["spec"]
    client = openai.OpenAI(base_url=f"http://{service['clusterIP']}:80/v1", api_key=key, max_retries=2)

    file = client.files.create(
        file=("rows.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS).encode()), purpose="fine-tune"
    )
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file.id, suffix="e2e")
    messages = []
    with client.with_options(timeout=240).fine_tuning.jobs.with_streaming_response.list_events(
        job.id, extra_query={"stream": "true"}
    ) as events:
        for line in events.iter_lines():
            messages.append(line)
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded", (job.error, messages)
    assert any("training loss=" in message for message in messages)
    assert job.fine_tuned_model is not None and job.fine_tuned_model.startswith("ft:tiny:acme:e2e:")

    answer = client.with_options(timeout=240).chat.completions.create(
        model=job.fine_tuned_model, messages=[{"role": "user", "content": "What is a and u?"}], max_tokens=8
    )
    assert answer.model == job.fine_tuned_model
    assert answer.usage is not None and answer.usage.completion_tokens > 0
    (result,) = job.result_files
    assert client.files.content(result).read().startswith(b"step,train_loss")
    assert refused(installed, release) == []
