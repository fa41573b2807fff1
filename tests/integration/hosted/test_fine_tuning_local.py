"""A tiny model that is really trained on this machine, through the API by OpenAI's own client, and then asked."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from support.hosted import Hosted, serving
from support.hosted_jobs import CHAT, lines, put_file
from support.manifests import job as tiny_job
from support.manifests import workspace as tiny_workspace
from tunesmith_backend.local.backend import LocalBackend
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.reconcile.loop import run

SPEC = tiny_job()["spec"]
TINY = {
    "name": "tiny",
    "model": SPEC["model"],
    "method": "full",
    "job": {name: SPEC[name] for name in ("training", "evaluation", "export")}
    | {"dataset": {"validation": {"fraction": 0.1}}},
    "workspace": {"runtime": tiny_workspace()["spec"]["runtime"]},
    "context_length": 128,
}


@pytest.fixture
def hosted(tmp_path: Path) -> Iterator[Hosted]:
    """A service whose reconciler runs."""
    backend = LocalBackend(tmp_path / "work")
    with serving(tmp_path, backend, bases=[TINY], reconcile_seconds=0.2) as service:

        async def start() -> tuple[asyncio.Event, asyncio.Task[None]]:
            wake, stop = asyncio.Event(), asyncio.Event()
            context = Context(service.settings, service.sessions, backend, wake.set)
            return stop, asyncio.create_task(run(context, wake, stop))

        async def end(stop: asyncio.Event, task: asyncio.Task[None]) -> None:
            stop.set()
            await task

        stop, task = service.run(start())
        try:
            yield service
        finally:
            service.run(end(stop, task))
            service.run(backend.close())


def test_a_model_is_trained_paused_and_asked(hosted: Hosted) -> None:
    client = hosted.client()
    training = hosted.run(put_file(hosted.sessions, hosted.settings.files, lines(CHAT * 3)))
    job = client.fine_tuning.jobs.create(
        model="tiny", training_file=training, suffix="real", hyperparameters={"n_epochs": 2, "batch_size": 4}
    )
    deadline = time.monotonic() + 600
    while client.fine_tuning.jobs.retrieve(job.id).status in ("validating_files", "queued"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert client.fine_tuning.jobs.pause(job.id).status == "pausing"
    while client.fine_tuning.jobs.retrieve(job.id).status == "pausing":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert client.fine_tuning.jobs.retrieve(job.id).status == "paused"
    client.fine_tuning.jobs.resume(job.id)
    while (job := client.fine_tuning.jobs.retrieve(job.id)).status not in ("succeeded", "failed"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert job.status == "succeeded", job.error
    assert job.hyperparameters.n_epochs == 2 and job.trained_tokens
    table = (Path(hosted.settings.files) / job.result_files[0]).read_text().splitlines()
    (checkpoint,) = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert len(table) == 1 + checkpoint.step_number
    assert checkpoint.metrics.full_valid_loss
    assert job.fine_tuned_model

    # It sleeps until somebody asks it.
    asked = {"messages": [{"role": "user", "content": "What is 1?"}], "max_tokens": 4}
    answer = client.chat.completions.create(model=job.fine_tuned_model, **asked)
    assert answer.model == job.fine_tuned_model
    assert answer.usage and answer.usage.completion_tokens
    assert job.fine_tuned_model in [model.id for model in client.models.list()]
    stranger = hosted.client(hosted.other_key)
    with pytest.raises(openai.NotFoundError, match="does not exist or you do not have access"):
        stranger.chat.completions.create(model=job.fine_tuned_model, **asked)
