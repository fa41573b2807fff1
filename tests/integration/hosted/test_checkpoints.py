"""Checkpoints before the last and jobs that start from tuned models, by OpenAI's client over a fake backend."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from support.fake_backend import FakeBackend
from support.hosted import BASE, Hosted, serving
from support.hosted_jobs import CHAT, Steps, lines, put_file
from support.hosted_models import add_checkpoint, add_project, project_of
from tunesmith_hosted.database.outbox import ask_for
from tunesmith_hosted.database.tables import TunedModel
from tunesmith_hosted.models.finding import find_model, model_row
from tunesmith_hosted.process.check import check
from tunesmith_hosted.tenants.keys import find_caller

STEPS = (2, 4, 6)


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def hosted(tmp_path: Path, backend: FakeBackend, database_url: str) -> Iterator[Hosted]:
    tiny = {**BASE, "model": {"uri": "/models/tiny"}}
    plain = {"name": "plain", "model": {"uri": "/models/plain"}, "job": {"export": {"mergeWeights": False}}}
    files = f"file://{tmp_path}/files"
    with serving(tmp_path, backend, bases=[tiny, plain], files=files, database=database_url) as service:
        yield service


@pytest.fixture
def steps(hosted: Hosted, backend: FakeBackend) -> Steps:
    return Steps(hosted, backend)


def upload(hosted: Hosted, tmp_path: Path, key: int = 0) -> str:
    return str(hosted.run(put_file(hosted.sessions, str(tmp_path / "files"), lines(CHAT), key=key)))


def succeed(hosted: Hosted, backend: FakeBackend, steps: Steps, folder: Path, base: str = "tiny") -> tuple[str, str]:
    """Let a job succeed with checkpoints of all its epochs, and return its id and the URI of its artifact."""
    client = hosted.client()
    job = client.fine_tuning.jobs.create(model=base, training_file=upload(hosted, folder))
    steps.look(3)
    name = f"ft-{job.id[6:].lower()}"
    uri = f"{hosted.settings.files}/artifacts/{project_of(hosted, hosted.key)}/{name}"
    places = {step: uri if step == STEPS[-1] else f"{uri}-step-{step}" for step in STEPS}
    for place in places.values():
        artifact = Path(place.removeprefix("file://"))
        artifact.mkdir(parents=True)
        log = [{"step": step, "loss": 9.0 - step, "evalLoss": 8.0 - step, "tokens": step} for step in range(1, 7)]
        (artifact / "training_log.jsonl").write_bytes(lines(log))
    before = [{"step": step, "uri": places[step], "digest": "sha256:0"} for step in STEPS[:-1]]
    backend.set_status(name, phase="Succeeded", artifact={"uri": uri, "step": STEPS[-1], "checkpoints": before})
    steps.look()
    return job.id, uri


def wake(hosted: Hosted, steps: Steps, name: str) -> TunedModel:
    """Do what the first request for a model does, let the reconciler look, and return the model's row."""

    async def ask() -> None:
        async with hosted.sessions.begin() as session:
            caller = await find_caller(session, hosted.key)
            assert caller
            found = await find_model(session, hosted.settings, caller, name)
            assert found
            row = await model_row(session, found)
            row.wanted, row.last_used_at = "awake", int(steps.context.now())
            await ask_for(session, "model", name)

    async def row() -> TunedModel:
        async with hosted.sessions() as session:
            return await session.get_one(TunedModel, name)

    hosted.run(ask())
    steps.look()
    found: TunedModel = hosted.run(row())
    return found


def is_there(uri: str) -> bool:
    return Path(uri.removeprefix("file://")).exists()


def refused(create: Callable[[], object], kind: type[openai.APIStatusError], message: str) -> None:
    with pytest.raises(kind, match=message) as raised:
        create()
    assert raised.value.param == "model"


def test_each_that_is_listed_can_be_asked(hosted: Hosted, backend: FakeBackend, steps: Steps, tmp_path: Path) -> None:
    client = hosted.client()
    id, uri = succeed(hosted, backend, steps, tmp_path)
    model = client.fine_tuning.jobs.retrieve(id).fine_tuned_model
    listed = list(client.fine_tuning.jobs.checkpoints.list(id, limit=2))  # two pages
    assert [item.step_number for item in listed] == [6, 4, 2]
    for item in listed:
        FineTuningJobCheckpoint.model_validate(item.model_dump(exclude_unset=True), strict=True, extra="forbid")
        step = item.step_number
        assert item.fine_tuned_model_checkpoint == f"{model}:ckpt-step-{step}"
        assert (item.metrics.step, item.metrics.train_loss, item.metrics.full_valid_loss) == (step, 9 - step, 8 - step)
        assert client.models.retrieve(item.fine_tuned_model_checkpoint)
        row = wake(hosted, steps, item.fine_tuned_model_checkpoint)
        (ref,) = [ref for ref in backend.objects if ref.name == row.workspace]
        assert backend.objects[ref]["spec"]["model"] == {"uri": uri if step == 6 else f"{uri}-step-{step}"}
    messages = [event.message for event in client.fine_tuning.jobs.list_events(id)]
    assert [f"Checkpoint created at step {step}" in messages for step in STEPS] == [True] * 3


def test_each_is_kept_until_it_is_deleted(hosted: Hosted, backend: FakeBackend, steps: Steps, tmp_path: Path) -> None:
    client = hosted.client()
    id, uri = succeed(hosted, backend, steps, tmp_path)
    places = {2: f"{uri}-step-2", 4: f"{uri}-step-4", 6: uri}
    listed = client.fine_tuning.jobs.checkpoints.list(id).data
    names = {item.step_number: item.fine_tuned_model_checkpoint for item in listed}
    model = client.fine_tuning.jobs.retrieve(id).fine_tuned_model
    assert model
    client.models.delete(names[4])
    steps.look()
    assert [item.step_number for item in client.fine_tuning.jobs.checkpoints.list(id)] == [6, 2]
    assert [is_there(place) for place in places.values()] == [True, False, True]
    client.models.delete(model)  # the checkpoint of the same step is asked by its own name
    steps.look()
    assert is_there(uri) and backend.jobs()
    assert wake(hosted, steps, names[6]).artifact == uri
    client.models.delete(names[6])
    steps.look()
    assert [is_there(place) for place in places.values()] == [True, False, False]
    assert backend.jobs(), "on one machine the other checkpoint is in the job's folder"
    client.models.delete(names[2])
    steps.look()
    assert not any(map(is_there, places.values())) and not backend.jobs()
    assert client.fine_tuning.jobs.checkpoints.list(id).data == []


def test_the_check_knows_them(hosted: Hosted, backend: FakeBackend, steps: Steps, tmp_path: Path) -> None:
    _, uri = succeed(hosted, backend, steps, tmp_path)
    for name in ("ft-gone", "ft-gone-step-4"):
        stray = Path(uri.removeprefix("file://")).with_name(name)
        stray.mkdir()
        (stray / "manifest.json").write_text("{}")

    async def listed(*_: object) -> list[object]:
        return []

    backend.list = listed  # type: ignore[attr-defined]
    said: list[str] = []
    hosted.run(check(hosted.settings, hosted.sessions, backend, True, said.append))  # type: ignore[arg-type]
    assert sorted(line.split()[0].split("/")[2] for line in said if line.startswith("artifacts/")) == [
        "ft-gone",
        "ft-gone-step-4",
    ]
    assert all(is_there(f"{uri}{end}/training_log.jsonl") for end in ("", "-step-2", "-step-4"))


def test_a_job_starts_from_a_model(hosted: Hosted, backend: FakeBackend, steps: Steps, tmp_path: Path) -> None:
    client, jobs = hosted.client(), hosted.client().fine_tuning.jobs
    first, uri = succeed(hosted, backend, steps, tmp_path)
    model = jobs.retrieve(first).fine_tuned_model
    assert model
    training = upload(hosted, tmp_path)
    second = jobs.create(model=model, training_file=training)
    assert second.model == model
    steps.look(3)  # one machine runs one at a time
    third = jobs.create(model=f"{model}:ckpt-step-6", training_file=training)  # the same weights

    def spec(job: str) -> dict[str, Any]:
        (found,) = [found for ref, found in backend.objects.items() if ref.name == f"ft-{job[6:].lower()}"]
        return dict(found["spec"])

    assert (spec(second.id)["model"], spec(second.id)["export"]) == ({"uri": f"{uri}/model"}, {"mergeWeights": True})
    # Its weights stay until both jobs have ended, although nobody can ask it any more.
    for item in jobs.checkpoints.list(first).data:
        client.models.delete(item.fine_tuned_model_checkpoint)
    client.models.delete(model)
    steps.look(2)
    assert (
        is_there(uri) and not is_there(f"{uri}-step-2") and len(backend.jobs()) == 2
    )  # one machine runs one at a time
    refused(lambda: jobs.create(model=model, training_file=training), openai.NotFoundError, "does not exist")
    artifact = {"uri": f"{tmp_path}/second"}
    backend.set_status(f"ft-{second.id[6:].lower()}", phase="Succeeded", artifact=artifact)
    steps.look(3)
    made = jobs.retrieve(second.id).fine_tuned_model
    assert made and made.startswith("ft:tiny:acme::"), "it has the name of the base"
    assert is_there(uri) and spec(third.id)["model"] == {"uri": f"{uri}/model"}
    jobs.cancel(third.id)
    steps.look(20)
    assert not is_there(uri) and f"ft-{first[6:].lower()}" not in backend.jobs()


def test_what_cannot_be_started_from_is_refused(
    hosted: Hosted, backend: FakeBackend, steps: Steps, tmp_path: Path
) -> None:
    jobs = hosted.client().fine_tuning.jobs
    training = upload(hosted, tmp_path)
    running = jobs.create(model="tiny", training_file=training)
    unfinished = f"ft:tiny:acme::{running.id[-8:]}"
    for name in (unfinished, f"{unfinished}:ckpt-step-2", "ft:tiny:acme::zzzzzzzz", "gpt-5"):
        refused(lambda name=name: jobs.create(model=name, training_file=training), openai.NotFoundError, "not exist")
    jobs.cancel(running.id)
    first, _ = succeed(hosted, backend, steps, tmp_path)
    model = jobs.retrieve(first).fine_tuned_model
    assert model
    early = f"{model}:ckpt-step-2"
    refused(lambda: jobs.create(model=early, training_file=training), openai.BadRequestError, "before the last")
    foreign = hosted.client(hosted.other_key).fine_tuning.jobs
    theirs = upload(hosted, tmp_path, key=1)
    for name in (model, early):
        refused(lambda name=name: foreign.create(model=name, training_file=theirs), openai.NotFoundError, "not exist")
    kept, _ = succeed(hosted, backend, steps, tmp_path, base="plain")
    plain = jobs.retrieve(kept).fine_tuned_model
    assert plain
    refused(lambda: jobs.create(model=plain, training_file=training), openai.BadRequestError, "were not kept")
    friend = add_project(hosted, "acme", "friend")
    shared = add_checkpoint(hosted, model, 9, share_with=project_of(hosted, friend))
    shares = hosted.client(friend).fine_tuning.jobs
    refused(lambda: shares.create(model=shared, training_file="file-x"), openai.BadRequestError, "another project")
