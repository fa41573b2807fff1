"""`gpu_hours_a_month`: counted from what jobs hold, and kept."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from support.fake_backend import FakeBackend, condition
from support.hosted import BASE, Hosted, serving
from support.hosted_jobs import CHAT, Steps, lines, put_file

GPU = {**BASE, "model": {"uri": "/models/tiny"}, "job": {"resources": {"gpusPerNode": 4}}}
CPU = {"name": "small", "model": {"uri": "/models/small"}}


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def hosted(tmp_path: Path, backend: FakeBackend) -> Iterator[Hosted]:
    with serving(tmp_path, backend, bases=[GPU, CPU], quotas={"gpu_hours_a_month": 1}) as service:
        yield service


def gpu_seconds(hosted: Hosted) -> float:
    url = f"{hosted.url}/v1/organization/usage/fine_tuning?start_time={int(time.time()) - 86_400}&limit=3"
    buckets = httpx.get(url, headers={"Authorization": f"Bearer {hosted.key}"}).json()["data"]
    return sum(result["gpu_seconds"] for bucket in buckets for result in bucket["results"])


def test_a_month_of_gpus_ends(hosted: Hosted, backend: FakeBackend) -> None:
    steps, client = Steps(hosted, backend), hosted.client()
    file = hosted.run(put_file(hosted.sessions, hosted.settings.files, lines(CHAT)))
    jobs = client.fine_tuning.jobs
    job = jobs.create(model="tiny", training_file=file)
    waiting = jobs.create(model="tiny", training_file=file)
    steps.until(lambda: bool(backend.jobs()))
    (name,) = backend.jobs()  # one machine runs one at a time
    job, waiting = (job, waiting) if name == f"ft-{job.id[6:].lower()}" else (waiting, job)
    backend.set_status(name, phase="Training", progress={"step": 1, "totalSteps": 9, "loss": 2.0})
    steps.look()
    steps.ahead += 600
    steps.look()
    assert 4 * 600 <= gpu_seconds(hosted) < 4 * 620
    assert jobs.retrieve(job.id).status == "running"
    steps.ahead += 400
    steps.look()
    assert jobs.retrieve(job.id).status == "pausing", "4 GPUs for 1,000 seconds are more than an hour"
    (said,) = [event for event in jobs.list_events(job.id).data if event.level == "warn"]
    assert "has used its GPU hours" in said.message
    steps.until(lambda: backend.objects[next(iter(backend.objects))]["spec"].get("suspend") is True)
    backend.set_status(name, phase="Training", conditions=condition("Suspended", "it waits"))
    steps.until(lambda: jobs.retrieve(job.id).status == "paused")

    with pytest.raises(openai.PermissionDeniedError, match="GPU hours") as refused:
        jobs.create(model="tiny", training_file=file)
    assert refused.value.code == "gpu_hours_exceeded"
    jobs.resume(job.id)
    small = jobs.create(model="small", training_file=file)
    steps.look(4)
    assert {jobs.retrieve(id).status for id in (job.id, waiting.id)} == {"queued"}
    assert f"ft-{small.id[6:].lower()}" in backend.jobs(), "what needs no GPU goes on"
