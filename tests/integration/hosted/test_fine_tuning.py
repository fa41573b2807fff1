"""Fine-tuning jobs by OpenAI's own client, over a backend that is a fake."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from openai.types.fine_tuning import FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from pydantic import BaseModel
from sqlalchemy import select

from support.fake_backend import FakeBackend, condition
from support.hosted import BASE, Hosted, serving
from support.hosted_jobs import CHAT, Steps, lines, put_file
from tunesmith_hosted.database.tables import File, Project, TunedModel

TINY = {**BASE, "model": {"uri": "/models/tiny"}}
HYPERPARAMETERS = {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5}


def parsed_exactly(item: BaseModel) -> None:
    """Check that the client's model has all fields of an object, with their types."""
    assert not item.model_extra, item.model_extra
    for name, value in item:
        if isinstance(value, BaseModel):
            parsed_exactly(value)
        assert name in type(item).model_fields
    plain = item.model_dump(exclude_unset=True)
    if plain.get("status") not in ("paused", "pausing"):  # which the client's type does not list
        type(item).model_validate(plain, strict=True)


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def hosted(tmp_path: Path, backend: FakeBackend, database_url: str) -> Iterator[Hosted]:
    with serving(tmp_path, backend, bases=[TINY], database=database_url) as service:
        yield service


@pytest.fixture
def steps(hosted: Hosted, backend: FakeBackend) -> Steps:
    return Steps(hosted, backend)


def upload(hosted: Hosted, content: bytes, **given: object) -> str:
    return str(hosted.run(put_file(hosted.sessions, hosted.settings.files, content, **given)))


def artifact_at(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    log = [{"step": step, "loss": 3.0 - step, "tokens": step * 100} for step in (1, 2)]
    log[1]["evalLoss"] = 0.75
    (folder / "training_log.jsonl").write_bytes(lines(log))
    return str(folder)


def test_a_job_from_its_file_to_its_model(hosted: Hosted, backend: FakeBackend, steps: Steps, tmp_path: Path) -> None:
    client = hosted.client()
    training, validation = upload(hosted, lines(CHAT)), upload(hosted, lines(CHAT[:2]))
    job = client.fine_tuning.jobs.create(
        model="gpt-4o-mini-2024-07-18",
        training_file=training,
        validation_file=validation,
        method={"type": "supervised", "supervised": {"hyperparameters": HYPERPARAMETERS}},
        suffix="support",
        seed=7,
        metadata={"team": "x"},
    )
    parsed_exactly(job)
    assert (job.status, job.seed, job.metadata, job.model) == (
        "validating_files",
        7,
        {"team": "x"},
        "gpt-4o-mini-2024-07-18",
    )
    steps.look(3)
    (name,) = backend.jobs()
    manifest = next(iter(backend.objects.values()))
    assert manifest["spec"]["dataset"]["format"] == "messages"
    assert manifest["spec"]["training"] == {
        "seed": 7,
        "epochs": 2,
        "globalBatchSize": 1,
        "learningRate": pytest.approx(1e-4),
        "checkpoint": {"publish": 2},
    }
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "queued"
    assert job.method and job.method.supervised and job.method.supervised.hyperparameters
    assert job.method.supervised.hyperparameters.model_dump() == {**HYPERPARAMETERS, "batch_size": 1}

    progress = {"step": 1, "totalSteps": 2, "loss": 2.0, "etaSeconds": 60}
    backend.set_status(name, phase="Training", progress=progress)
    steps.look()
    job = client.fine_tuning.jobs.retrieve(job.id)
    parsed_exactly(job)
    assert job.status == "running" and job.estimated_finish

    paused = client.fine_tuning.jobs.pause(job.id)
    assert paused.status == "pausing"
    steps.look()
    backend.set_status(name, phase="Training", progress=progress, conditions=condition("Suspended", "it waits"))
    steps.look()
    assert client.fine_tuning.jobs.retrieve(job.id).status == "paused"
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    steps.look(3)
    assert next(iter(backend.objects.values()))["spec"].get("suspend") is not True
    backend.set_status(name, phase="Training", progress={**progress, "step": 2, "evalLoss": 0.75})
    steps.look()
    assert client.fine_tuning.jobs.retrieve(job.id).status == "running"

    backend.set_status(name, phase="Succeeded", artifact={"uri": artifact_at(tmp_path / "artifact")})
    steps.look()
    job = client.fine_tuning.jobs.retrieve(job.id)
    parsed_exactly(job)
    assert (job.status, job.trained_tokens, job.estimated_finish) == ("succeeded", 200, None)
    assert job.fine_tuned_model == f"ft:tiny:acme:support:{job.id[-8:]}"
    (result,) = job.result_files
    table = (Path(hosted.settings.files) / result).read_text()
    assert table == ("step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,2.0,,,\n2,1.0,,0.75,\n")

    (checkpoint,) = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert isinstance(checkpoint, FineTuningJobCheckpoint)
    parsed_exactly(checkpoint)
    assert checkpoint.fine_tuned_model_checkpoint == f"{job.fine_tuned_model}:ckpt-step-2"
    assert checkpoint.metrics.full_valid_loss == 0.75
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=3))
    for event in events:
        assert isinstance(event, FineTuningJobEvent)
        parsed_exactly(event)
    assert events[0].message == "The job has successfully completed"
    assert events[-1].message == f"Created fine-tuning job: {job.id}"
    assert [event.data["step"] for event in events if event.type == "metrics"] == [2, 1]
    with httpx.stream(
        "GET",
        f"{hosted.url}/v1/fine_tuning/jobs/{job.id}/events?stream=true",
        headers={"Authorization": f"Bearer {hosted.key}"},
    ) as answer:
        sent = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert sent[-1] == "[DONE]"
    assert [json.loads(line)["id"] for line in reversed(sent[:-1])] == [event.id for event in events]

    async def permitted() -> str:
        async with hosted.sessions.begin() as session:
            mine = (await session.execute(select(Project).where(Project.name == "research"))).scalars().first()
            assert mine
            other = Project(
                id="proj_2", organization_id=mine.organization_id, name="two", namespace="two", quotas={}, created_at=1
            )
            session.add(other)
        return other.id

    other = hosted.run(permitted())
    permissions = client.fine_tuning.checkpoints.permissions
    model = checkpoint.fine_tuned_model_checkpoint
    (granted,) = permissions.create(model, project_ids=[other])
    parsed_exactly(granted)
    assert [item.id for item in permissions.create(model, project_ids=[other])] == [granted.id]
    (listed,) = permissions.list(model)
    assert listed.id == granted.id and listed.project_id == other
    parsed_exactly(listed)
    foreign = hosted.client(hosted.other_key)
    with pytest.raises(openai.NotFoundError):
        foreign.fine_tuning.checkpoints.permissions.list(model)
    deleted = permissions.delete(granted.id, fine_tuned_model_checkpoint=model)
    parsed_exactly(deleted)
    assert list(permissions.list(model)) == []


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"model": "unknown"}, "model"),
        ({"training_file": "file-unknown"}, "training_file"),
        ({"validation_file": "file-unknown"}, "validation_file"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "integrations"),
        ({"method": {"type": "reinforcement"}}, "method.type"),
        ({"method": {"type": "dpo", "supervised": {}}}, "method.supervised"),
        ({"method": {"type": "dpo"}, "hyperparameters": {"n_epochs": 1}}, "hyperparameters"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
        ({"suffix": "a:b"}, "suffix"),
        ({"suffix": "a" * 65}, "suffix"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_requests_say_what_to_write(shared: Hosted, given: dict[str, object], param: str) -> None:
    request = {"model": "tiny", "training_file": upload(shared, lines(CHAT)), **given}
    with pytest.raises(openai.APIStatusError) as caught:
        shared.client().fine_tuning.jobs.create(**request)  # type: ignore[arg-type]
    assert caught.value.status_code in (400, 404)
    assert caught.value.body["param"] == param, caught.value.body  # type: ignore[index]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    with serving(tmp_path_factory.mktemp("shared"), FakeBackend(), bases=[TINY]) as service:
        yield service


def test_lists_in_pages_and_by_metadata(shared: Hosted) -> None:
    client = shared.client()
    training = upload(shared, lines(CHAT))
    ids = [
        client.fine_tuning.jobs.create(model="tiny", training_file=training, metadata={"n": str(n)}).id
        for n in range(3)
    ]
    bare = client.fine_tuning.jobs.create(model="tiny", training_file=training)
    assert {job.id for job in client.fine_tuning.jobs.list(limit=2)} == {*ids, bare.id}
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"n": "1"})] == [ids[1]]
    assert list(client.fine_tuning.jobs.list(metadata={'"': "1"})) == []
    unmarked = client.fine_tuning.jobs.list(extra_query={"metadata": "null"})
    assert [job.id for job in unmarked] == [bare.id]


def test_nobody_sees_anothers_jobs(shared: Hosted) -> None:
    job = shared.client().fine_tuning.jobs.create(model="tiny", training_file=upload(shared, lines(CHAT)))
    jobs = shared.client(shared.other_key).fine_tuning.jobs
    assert list(jobs.list()) == []
    asks = (jobs.retrieve, jobs.cancel, jobs.pause, jobs.resume, jobs.list_events, jobs.checkpoints.list)
    for ask in (*asks, lambda id: jobs.list(after=id)):
        messages = []
        for id in (job.id, "ftjob-none"):
            with pytest.raises(openai.NotFoundError) as caught:
                ask(id)
            messages.append(caught.value.message.replace(id, "ID"))
        assert messages[0] == messages[1]
    with pytest.raises(openai.NotFoundError):
        jobs.create(model="tiny", training_file=upload(shared, lines(CHAT)))


def test_wrong_rows_fail_the_job_with_their_lines(hosted: Hosted, steps: Steps, backend: FakeBackend) -> None:
    client = hosted.client()
    wrong = [*CHAT[:4], {"messages": [{"role": "robot", "content": "?"}]}, *CHAT]
    job = client.fine_tuning.jobs.create(model="tiny", training_file=upload(hosted, lines(wrong)))
    few = client.fine_tuning.jobs.create(model="tiny", training_file=upload(hosted, lines(CHAT[:9])))
    steps.look()
    job, few = client.fine_tuning.jobs.retrieve(job.id), client.fine_tuning.jobs.retrieve(few.id)
    parsed_exactly(job)
    assert job.status == few.status == "failed"
    assert job.error and (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    assert 'Line 5: messages[0].role is "robot"' in job.error.message
    assert few.error and "has 9 example(s), but must have at least 10" in few.error.message
    assert backend.jobs() == []
    with pytest.raises(openai.BadRequestError, match="failed"):
        client.fine_tuning.jobs.cancel(job.id)


def test_a_cancelled_job_is_deleted_and_the_next_one_runs(hosted: Hosted, steps: Steps, backend: FakeBackend) -> None:
    client = hosted.client()
    training = upload(hosted, lines(CHAT))
    first, second = (client.fine_tuning.jobs.create(model="tiny", training_file=training) for _ in range(2))
    steps.look(3)
    (running,) = backend.jobs()  # one machine runs one at a time
    chosen = first if running == f"ft-{first.id[6:].lower()}" else second
    assert client.fine_tuning.jobs.cancel(chosen.id).status == "cancelled"
    assert client.fine_tuning.jobs.cancel(chosen.id).status == "cancelled"
    steps.look(3)
    (other,) = backend.jobs()
    assert other != running


def test_a_model_wakes_and_sleeps(hosted: Hosted, steps: Steps, backend: FakeBackend, tmp_path: Path) -> None:
    client = hosted.client()
    job = client.fine_tuning.jobs.create(model="tiny", training_file=upload(hosted, lines(CHAT)))
    steps.look(3)
    (name,) = backend.jobs()
    backend.set_status(name, phase="Succeeded", artifact={"uri": artifact_at(tmp_path / "artifact")})
    steps.look(2)
    model = client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
    assert model

    from tunesmith_hosted.database.outbox import ask_for

    async def want(wanted: str) -> None:
        async with hosted.sessions.begin() as session:
            row = await session.get_one(TunedModel, model)
            row.wanted, row.last_used_at = wanted, int(steps.context.now())
            await ask_for(session, "model", model)

    async def row() -> TunedModel:
        async with hosted.sessions() as session:
            return await session.get_one(TunedModel, model)

    hosted.run(want("awake"))
    steps.look()
    (ref,) = [ref for ref in backend.objects if ref.kind == "InferenceWorkspace"]
    assert backend.objects[ref]["spec"]["model"] == {"uri": str(tmp_path / "artifact")}
    assert hosted.run(row()).endpoint is None
    backend.endpoints[ref] = "http://127.0.0.1:1/v1"
    steps.look()
    assert hosted.run(row()).endpoint == "http://127.0.0.1:1/v1"
    steps.ahead += hosted.settings.idle_seconds + 1
    steps.look(2)
    asleep = hosted.run(row())
    assert (asleep.wanted, asleep.endpoint) == ("asleep", None)
    assert backend.objects[ref]["spec"]["replicas"] == 0
    hosted.run(want("deleted"))
    steps.look()
    assert ref not in backend.objects


def test_the_results_file_belongs_to_the_project(hosted: Hosted, steps: Steps, backend: FakeBackend) -> None:
    client = hosted.client()
    client.fine_tuning.jobs.create(model="tiny", training_file=upload(hosted, lines(CHAT)))
    steps.look(3)
    (name,) = backend.jobs()
    backend.set_status(name, phase="Training", progress={"step": 3, "totalSteps": 3, "loss": 0.5})
    steps.look()
    backend.set_status(name, phase="Succeeded", artifact={"uri": "pvc://work/artifact"})
    steps.look()
    (job,) = client.fine_tuning.jobs.list()

    async def row() -> File:
        async with hosted.sessions() as session:
            return await session.get_one(File, job.result_files[0])

    file = hosted.run(row())
    assert (file.purpose, file.filename) == ("fine-tune-results", "step_metrics.csv")
    # The artifact is on a volume: the file has the steps that were seen.
    assert (Path(hosted.settings.files) / file.path).read_text().endswith("\n3,0.5,,,\n")
