"""A tiny model that is really trained on this machine, through the API by OpenAI's own client, and then asked."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from support.hosted import Hosted, serving
from support.manifests import job as tiny_job
from support.manifests import workspace as tiny_workspace
from tunesmith_backend.local.backend import LocalBackend
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.reconcile.loop import run

EXAMPLE = Path(__file__).parents[3] / "examples" / "hosted"
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


def test_the_example_trains_pauses_and_asks(hosted: Hosted) -> None:
    """examples/hosted/train.py, as it is: nothing but the URL and the key say where it runs."""
    environment = {"OPENAI_BASE_URL": f"{hosted.url}/v1", "OPENAI_API_KEY": hosted.key}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "train.py"), "--model", "tiny", "--epochs", "2"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    found = re.search(r"^(ftjob-\S+) has made (\S+) of (\d+) tokens$", said, re.MULTILINE)
    assert found and int(found[3]) > 0, said
    for line in ("uploaded train.jsonl", "pausing ...", "paused; then queued", "  The job has successfully completed"):
        assert f"\n{line}" in f"\n{said}", said
    assert re.search(rf"^checkpoint of step (\d+): {re.escape(found[2])}:ckpt-step-\1$", said, re.MULTILINE), said

    client = hosted.client()
    job = client.fine_tuning.jobs.retrieve(found[1])
    assert job.hyperparameters.n_epochs == 2 and job.trained_tokens == int(found[3])
    table = client.files.content(job.result_files[0]).text.splitlines()
    checkpoint = client.fine_tuning.jobs.checkpoints.list(job.id).data[0]
    assert len(table) == 1 + checkpoint.step_number
    assert checkpoint.metrics.full_valid_loss
    assert job.fine_tuned_model == found[2]

    asked = {"messages": [{"role": "user", "content": "What is 1?"}], "max_tokens": 4}
    answer = client.chat.completions.create(model=found[2], **asked)
    assert answer.model == found[2]
    assert answer.usage and answer.usage.completion_tokens
    assert found[2] in [model.id for model in client.models.list()]
    stranger = hosted.client(hosted.other_key)
    with pytest.raises(openai.NotFoundError, match="does not exist or you do not have access"):
        stranger.chat.completions.create(model=found[2], **asked)
