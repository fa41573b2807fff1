"""A tiny model that is really trained on this machine, through the API by OpenAI's own client, and then asked.

The console is asked beside it: the curve while the job runs, and everything once more over the work folders alone.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from starlette.testclient import TestClient

from support.hosted import Hosted, reconciling, serving
from support.manifests import job as tiny_job
from support.manifests import workspace as tiny_workspace
from tunesmith_backend.local.backend import LocalBackend
from tunesmith_hosted.console.work_folder.app import create_folder_app

EXAMPLE = Path(__file__).parents[3] / "examples" / "hosted"
SPEC = tiny_job()["spec"]
TINY = {
    "name": "tiny",
    "model": SPEC["model"],
    "method": "full",
    "job": {name: SPEC[name] for name in ("training", "export")}
    | {"evaluation": {**SPEC["evaluation"], "gates": [{"metric": "evalLoss", "max": 20}]}}
    | {"dataset": {"validation": {"fraction": 0.1}}},
    "workspace": {"runtime": tiny_workspace()["spec"]["runtime"]},
    "context_length": 128,
}


@pytest.fixture
def hosted(tmp_path: Path) -> Iterator[Hosted]:
    """A service whose reconciler runs."""
    backend = LocalBackend(tmp_path / "work")
    with (
        serving(tmp_path, backend, bases=[TINY], reconcile_seconds=0.2, work=tmp_path / "work") as service,
        reconciling(service, backend),
    ):
        yield service


def console(hosted: Hosted, job: str) -> dict[str, Any]:
    """Return what the console shows of a job."""
    headers = {"authorization": f"Bearer {hosted.key}"}
    answer = httpx.get(f"{hosted.url}/console/api/jobs/{job}", headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def check_work_folders(hosted: Hosted, detail: dict[str, Any], asked: dict[str, Any], asked_size: object) -> None:
    """See that `tunesmith ui` shows the same from the work folders alone, while the model is served."""
    with TestClient(create_folder_app(hosted.settings.work), base_url="http://127.0.0.1") as ui:
        (job,) = ui.get("/v1/fine_tuning/jobs").json()["data"]
        assert (job["status"], job["error"], job["hyperparameters"]["batch_size"]) == ("succeeded", None, asked_size)
        assert ui.get(f"/v1/fine_tuning/jobs/{job['id']}").json() == job
        assert "complete" in ui.get(f"/v1/fine_tuning/jobs/{job['id']}/events").text
        shown = ui.get(f"/console/api/jobs/{job['id']}").json()
        for name in ("curve", "gates", "worstRows", "plan", "measured", "yaml"):
            assert shown[name] == detail[name], name
        served_too = ui.get("/v1/models").json()["data"]  # a checkpoint has a server of its own
        (model,) = [model for model in served_too if model["id"] == job["fine_tuned_model"]]
        served = ui.get(f"/console/api/models/{model['id']}").json()
        assert served["isServed"] and served["jobId"] == job["id"] and served["revisions"][0]["isCurrent"]
        answer = ui.post("/v1/chat/completions", json={"model": model["id"], **asked})
        assert answer.json()["usage"]["completion_tokens"], answer.text
        streamed = ui.post("/v1/chat/completions", json={"model": model["id"], **asked, "stream": True})
        assert streamed.text.rstrip().endswith("data: [DONE]")


def check_weights(hosted: Hosted, job: str, step: int) -> None:
    """See that what answers for a checkpoint was exported from the weights that training had after its step."""
    (work,) = hosted.settings.work.glob(f"*/ft-{job[6:].lower()}")
    trained = json.loads((work / "train" / "stage.json").read_bytes())
    artifact = json.loads((work / f"artifact-step-{step}" / "manifest.json").read_bytes())
    assert artifact["training"]["final"] == trained["epochEnds"][str(step)] != trained["final"]
    assert artifact["parity"]["fp32"]["maxLogitDifference"] < 1e-3
    (workspace,) = hosted.settings.work.glob(f"*/ft-{job[6:].lower()}-ckpt-{step}")
    (served,) = workspace.glob("inferenceworkspace.json")
    assert f"artifact-step-{step}" in served.read_text()


def test_a_model_is_tuned_further(hosted: Hosted, tmp_path: Path) -> None:
    """A job whose `model` is a tuned model starts where that one ended, with the same client."""
    client = hosted.client()
    training = client.files.create(file=EXAMPLE / "train.jsonl", purpose="fine-tune").id
    models = ["tiny"]
    first: list[float] = []
    for _ in range(2):
        method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
        job = client.fine_tuning.jobs.create(model=models[-1], training_file=training, seed=1, method=method)
        while job.status not in ("succeeded", "failed"):
            time.sleep(0.2)
            job = client.fine_tuning.jobs.retrieve(job.id)
        assert job.status == "succeeded" and job.fine_tuned_model, job.error
        models.append(job.fine_tuned_model)
        table = client.files.content(job.result_files[0]).text.splitlines()
        first.append(float(table[1].split(",")[1]))
        (work,) = hosted.settings.work.glob(f"*/ft-{job.id[6:].lower()}")
        metrics = json.loads((work / "artifact" / "manifest.json").read_bytes())["metrics"]
        if len(models) == 2:
            ended = metrics["after"]["evalLoss"]
        else:
            assert metrics["before"]["evalLoss"] == pytest.approx(ended, abs=1e-4), "it starts from those weights"
    assert first[1] < first[0]
    answer = client.chat.completions.create(
        model=models[-1], messages=[{"role": "user", "content": "Hi"}], max_tokens=4
    )
    assert answer.model == models[-1]


@pytest.mark.long  # tests/e2e/cluster/test_hosted.py does so with pods
def test_the_example_trains_pauses_and_asks(hosted: Hosted, tmp_path: Path) -> None:
    """examples/hosted/train.py, as it is: nothing but the URL and the key say where it runs."""
    environment = {"OPENAI_BASE_URL": f"{hosted.url}/v1", "OPENAI_API_KEY": hosted.key}
    client = hosted.client()
    live: dict[str, Any] = {}
    command = [sys.executable, str(EXAMPLE / "train.py"), "--model", "tiny", "--epochs", "2"]
    with (tmp_path / "said").open("w+") as output:
        with subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=output) as example:
            while example.poll() is None:
                time.sleep(0.2)
                for job in client.fine_tuning.jobs.list():
                    shown = console(hosted, job.id)
                    live = shown if shown["curve"] and shown["status"] == "running" else live
        said = (tmp_path / "said").read_text()
    assert example.returncode == 0, said
    assert live["curve"][0]["step"] == 1 and live["curve"][0]["learningRate"] is not None, "the curve while it runs"
    found = re.search(r"^(ftjob-\S+) has made (\S+) of (\d+) tokens$", said, re.MULTILINE)
    assert found and int(found[3]) > 0, said
    for line in ("uploaded train.jsonl", "pausing ...", "paused; then queued", "  The job has successfully completed"):
        assert f"\n{line}" in f"\n{said}", said
    asked = re.search(rf"^checkpoint of step (\d+): {re.escape(found[2])}:ckpt-step-\1$", said, re.MULTILINE)
    assert asked, said

    job = client.fine_tuning.jobs.retrieve(found[1])
    assert job.hyperparameters.n_epochs == 2 and job.trained_tokens == int(found[3])
    table = client.files.content(job.result_files[0]).text.splitlines()
    checkpoint, before = client.fine_tuning.jobs.checkpoints.list(job.id)  # of two epochs
    assert int(asked[1]) == before.step_number == checkpoint.step_number / 2 and before.metrics.full_valid_loss
    check_weights(hosted, job.id, before.step_number)
    assert len(table) == 1 + checkpoint.step_number
    assert checkpoint.metrics.full_valid_loss
    assert job.fine_tuned_model == found[2]

    detail = console(hosted, job.id)
    assert [point["step"] for point in detail["curve"]] == list(range(1, checkpoint.step_number + 1))
    assert detail["plan"]["stages"]["train"]["memory"] and detail["measured"]["train"]["seconds"]
    assert [gate["passed"] for gate in detail["gates"]] == [True] and detail["gates"][0]["before"]
    assert detail["worstRows"] and detail["worstRows"][0]["reference"]

    asked = {"messages": [{"role": "user", "content": "What is 1?"}], "max_tokens": 4}
    answer = client.chat.completions.create(model=found[2], **asked)
    assert answer.model == found[2]
    assert answer.usage and answer.usage.completion_tokens
    assert found[2] in [model.id for model in client.models.list()]
    check_work_folders(hosted, detail, asked, job.hyperparameters.batch_size)
    stranger = hosted.client(hosted.other_key)
    with pytest.raises(openai.NotFoundError, match="does not exist or you do not have access"):
        stranger.chat.completions.create(model=found[2], **asked)
