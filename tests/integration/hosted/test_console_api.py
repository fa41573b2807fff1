"""What the console asks beyond OpenAI's routes: jobs, reports on files, plans and models of a project."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from sqlalchemy import select

from support.fake_backend import FakeBackend, condition
from support.hosted import Hosted, serving
from support.hosted_jobs import CHAT, Steps, lines, put_file
from support.hosted_models import add_model
from tunesmith_backend.interface.protocol import ObjectRef
from tunesmith_hosted.database.tables import AuditEntry, Outbox, TunedModel
from tunesmith_hosted.fine_tuning.names import object_name

SCRATCH = {"architecture": "llama", "hiddenSize": 64, "intermediateSize": 64, "numHiddenLayers": 2, "vocabSize": 320}
GATES = {"evaluation": {"gates": [{"metric": "exactMatch", "min": 0.5}]}}
TINY = {"name": "tiny", "model": {"scratch": SCRATCH}, "method": "full", "job": GATES}
GONE = {"name": "gone", "model": {"uri": "/nowhere/at/all"}}


@pytest.fixture(scope="module")
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture(scope="module")
def hosted(backend: FakeBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    with serving(tmp_path_factory.mktemp("hosted"), backend, bases=[TINY, GONE]) as service:
        yield service


@pytest.fixture(scope="module")
def file(hosted: Hosted) -> str:
    return str(hosted.run(put_file(hosted.sessions, hosted.settings.files, lines(CHAT))))


def ask(hosted: Hosted, path: str, body: Any = None, status: int = 200, key: str | None = None) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {key or hosted.key}"}
    method = "GET" if body is None else "POST"
    answer = httpx.request(method, f"{hosted.url}/console/api/{path}", json=body, headers=headers, timeout=300)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def test_a_session_by_key(hosted: Hosted) -> None:
    found = ask(hosted, "session")
    assert (found["person"], found["project"]["name"], found["organization"]["name"]) == (None, "research", "acme")
    assert "admin" in found["scopes"] and found["providers"] == []
    anonymous = httpx.get(f"{hosted.url}/console/api/session")
    assert anonymous.status_code == 200 and anonymous.json()["project"] is None


def test_browsers_are_sent_to_the_console(hosted: Hosted) -> None:
    sent = httpx.get(hosted.url, headers={"accept": "text/html,*/*"})
    assert (sent.status_code, sent.headers["location"]) == (307, "/console/")
    assert httpx.get(hosted.url).json()["error"]["message"].endswith("the API is at /v1")
    assert "default-src 'self'" in httpx.get(f"{hosted.url}/console/").headers["content-security-policy"]
    assert httpx.get(f"{hosted.url}/console/api/nothing").json()["error"]["message"].startswith("Invalid URL")


def test_a_job_while_it_runs_and_after(hosted: Hosted, backend: FakeBackend, file: str, tmp_path: Path) -> None:
    steps = Steps(hosted, backend)
    job = hosted.client().fine_tuning.jobs.create(model="tiny", training_file=file)
    name, url = object_name(job.id), f"jobs/{job.id}"
    before = ask(hosted, url)
    assert (before["status"], before["curve"], before["yaml"], before["gates"]) == ("validating_files", [], None, [])
    steps.until(lambda: name in backend.jobs())
    backend.folders[name] = tmp_path
    (tmp_path / "train").mkdir()
    log = tmp_path / "train" / "training_log.jsonl"
    log.write_text('{"step": 1, "loss": 3.0, "learningRate": 0.1}\n{"step": 2, "lo')
    progress = {"stage": "train", "step": 1, "totalSteps": 8, "loss": 3.0, "etaSeconds": 70}
    ready = condition("Training", "The train stage is running")
    backend.set_status(name, phase="Training", progress=progress, conditions=ready, plan={"machine": "big"})
    steps.look()
    running = ask(hosted, url)
    assert (running["status"], running["stage"], running["reason"]) == ("running", "train", "Training")
    assert running["progress"]["etaSeconds"] == 70 and running["plan"] == {"machine": "big"}
    assert running["curve"] == [{"step": 1, "loss": 3.0, "learningRate": 0.1, "evalLoss": None}]
    assert yaml.safe_load(running["yaml"])["metadata"]["name"] == name
    assert [(gate["metric"], gate["passed"]) for gate in running["gates"]] == [("exactMatch", None)]
    with log.open("a") as file_:
        file_.write('ss": 2.0, "evalLoss": 2.5}\n')
    assert [point["step"] for point in ask(hosted, f"{url}?after=1")["curve"]] == [2]

    (tmp_path / "publish").mkdir()
    row = {"row": 0, "prompt": "2+2", "reference": "4", "before": "?", "after": "5", "served": {"int4": "6"}}
    (tmp_path / "publish" / "predictions.jsonl").write_text(json.dumps(row) + "\n")
    values = {"exactMatch": 0.4}
    (tmp_path / "publish" / "evaluation.json").write_text(json.dumps({"before": {"exactMatch": 0}, "after": values}))
    backend.set_status(name, phase="Failed", conditions=condition("GateFailed", "exactMatch is 0.4", "False"))
    steps.until(lambda: hosted.client().fine_tuning.jobs.retrieve(job.id).status == "failed")
    failed = ask(hosted, url)
    assert (failed["reason"], failed["message"]) == ("GateFailed", "exactMatch is 0.4")
    assert [(gate["before"], gate["after"], gate["passed"]) for gate in failed["gates"]] == [(0, 0.4, False)]
    assert [found["served"] for found in failed["worstRows"]] == [{"int4": "6"}]


def test_a_job_whose_object_is_gone_keeps_what_was_measured(hosted: Hosted, backend: FakeBackend, file: str) -> None:
    steps = Steps(hosted, backend)
    job = hosted.client().fine_tuning.jobs.create(model="tiny", training_file=file)
    name = object_name(job.id)
    steps.until(lambda: name in backend.jobs())
    progress = {"stage": "train", "step": 4, "totalSteps": 8, "loss": 2.0, "evalLoss": 2.5}
    backend.set_status(name, phase="Training", progress=progress, conditions=condition("Training", ""))
    steps.look()
    metrics = {"after": {"exactMatch": 0.9}, "served": {"int4": {"exactMatch": 0.8}}}
    gone = {"phase": "Failed", "plan": {"machine": "big"}, "measured": {"train": {"seconds": 3}}, "metrics": metrics}
    backend.set_status(name, **gone, conditions=condition("DoesNotFit", "Too large", "False"))
    steps.until(lambda: hosted.client().fine_tuning.jobs.retrieve(job.id).status == "failed")
    (ref,) = [ref for ref in backend.objects if ref.name == name]
    del backend.objects[ref]
    found = ask(hosted, f"jobs/{job.id}")
    assert (found["plan"], found["measured"]) == ({"machine": "big"}, {"train": {"seconds": 3}})
    assert found["gates"][0]["served"] == 0.8 and found["gates"][0]["passed"]
    assert [(point["step"], point["evalLoss"]) for point in found["curve"]] == [(4, 2.5)], "of the events"


def test_a_job_that_waits_says_for_what(hosted: Hosted, file: str) -> None:
    job = hosted.client().fine_tuning.jobs.create(model="tiny", training_file=file)
    hosted.client().fine_tuning.jobs.cancel(job.id)
    assert ask(hosted, f"jobs/{job.id}")["status"] == "cancelled"


def test_a_report_is_that_of_tunesmith_data(hosted: Hosted) -> None:
    rows = [*CHAT, CHAT[0], CHAT[3]]
    file = hosted.run(put_file(hosted.sessions, hosted.settings.files, lines(rows)))
    found = ask(hosted, f"files/{file}/report?model=tiny")
    assert (found["format"], found["rows"], found["duplicates"], found["isWhole"]) == ("messages", 14, 2, True)
    duplicates = next(item for item in found["problems"] if item["kind"] == "duplicates")
    assert duplicates["examples"] == [[13, 1], [14, 4]] and duplicates["level"] == "warn"
    pieces = found["preview"][0]["pieces"]
    assert found["preview"][0]["line"] == 1
    assert [piece["trained"] for piece in pieces if piece["text"].startswith("What is")] == [False]
    assert [piece["trained"] for piece in pieces if piece["text"].startswith("It is")] == [True]
    assert found["lengths"]["histogram"]


def test_a_report_names_the_lines_that_are_wrong(hosted: Hosted) -> None:
    content = lines(CHAT[:2]) + b'{"messages": [{"role": "user"}]}\n'
    file = hosted.run(put_file(hosted.sessions, hosted.settings.files, content))
    found = ask(hosted, f"files/{file}/report")
    (problem,) = found["problems"]
    assert problem["level"] == "error" and problem["message"].startswith("Line 3: ")
    assert str(hosted.settings.files) not in json.dumps(found) and "/tmp" not in json.dumps(found)
    results = hosted.run(put_file(hosted.sessions, hosted.settings.files, b"x", purpose="batch"))
    assert "purpose batch" in ask(hosted, f"files/{results}/report", status=400)["error"]["message"]


def test_a_plan_is_that_of_the_job_that_would_be_made(hosted: Hosted, file: str) -> None:
    body = {"model": "tiny", "training_file": file, "hyperparameters": {"n_epochs": 2, "batch_size": 4}}
    found = ask(hosted, "plan", body)
    assert found["isPossible"] and found["memory"] > 0 and found["rows"] == len(CHAT) and found["currency"] == "USD"
    (chosen,) = [fit for fit in found["fits"] if fit["isChosen"]]
    assert (chosen["device"], chosen["method"], chosen["fits"]) == (found["device"], "full", True)
    assert chosen["memory"] == found["memory"]
    manifest = yaml.safe_load(found["yaml"])
    assert manifest["spec"]["training"]["epochs"] == 2 and manifest["spec"]["training"]["globalBatchSize"] == 4
    before = len(hosted.client().fine_tuning.jobs.list(limit=100).data)
    ask(hosted, "plan", body)
    assert len(hosted.client().fine_tuning.jobs.list(limit=100).data) == before, "nothing is created"


def test_a_plan_says_what_is_in_the_way(hosted: Hosted, file: str) -> None:
    gone = ask(hosted, "plan", {"model": "gone", "training_file": file}, status=400)["error"]
    assert gone["code"] == "cannot_plan" and "config.json" in gone["message"]
    unknown = ask(hosted, "plan", {"model": "unknown", "training_file": file}, status=404)["error"]
    assert unknown["code"] == "model_not_found"
    foreign = ask(hosted, "plan", {"model": "tiny", "training_file": file}, status=404, key=hosted.other_key)["error"]
    assert foreign["param"] == "training_file" and "No such File object" in foreign["message"]


def test_a_model_goes_back_to_an_earlier_revision(hosted: Hosted, backend: FakeBackend) -> None:
    name = add_model(hosted, hosted.key, "back", id="rollback", artifact="/two", workspace="ft-rollback")

    async def row() -> TunedModel:
        async with hosted.sessions() as session:
            return await session.get_one(TunedModel, name)

    async def project() -> str:
        from tunesmith_hosted.database.tables import Project

        async with hosted.sessions() as session:
            found = (await session.execute(select(Project).where(Project.id == (await row()).project_id))).scalar_one()
            return found.namespace

    ref = ObjectRef("InferenceWorkspace", "ft-rollback", hosted.run(project()))
    assert ask(hosted, f"models/{name}")["revisions"] == []
    assert "no earlier revision" in ask(hosted, f"models/{name}/rollback", {}, status=400)["error"]["message"]
    history = [
        {"revision": number, "artifact": f"/{number}", "time": "2026-01-01T00:00:00Z"} for number in ("one", "two")
    ]
    status = {"phase": "Serving", "revision": "two", "history": history, "replicas": 2, "readyReplicas": 1}
    backend.objects[ref] = {"spec": {}, "status": status}
    found = ask(hosted, f"models/{name}")
    assert [(item["revision"], item["isCurrent"]) for item in found["revisions"]] == [("two", True), ("one", False)]
    assert found["replicas"] == {"now": 2, "ready": 1} and found["rollout"]["phase"] == "Serving"
    assert ask(hosted, f"models/{name}/rollback", {})["revision"] == "one"
    assert hosted.run(row()).artifact == "/one"
    assert ask(hosted, f"models/{name}/rollback", {"revision": "two"})["revision"] == "two"
    wrong = ask(hosted, f"models/{name}/rollback", {"revision": "three"}, status=400)["error"]
    assert wrong["code"] == "revision_not_found"

    async def written() -> tuple[int, list[str]]:
        async with hosted.sessions() as session:
            due = (await session.execute(select(Outbox.subject).where(Outbox.subject == name))).all()
            query = select(AuditEntry.action).where(AuditEntry.subject == name)
            return len(due), list((await session.execute(query)).scalars())

    assert hosted.run(written()) == (1, ["model.rolled_back"] * 2)


def test_a_base_is_shown_and_not_rolled_back(hosted: Hosted) -> None:
    found = ask(hosted, "models/tiny")
    assert (found["kind"], found["wanted"], found["isServed"], found["own"]) == ("base", "asleep", False, False)
    assert ask(hosted, "models/tiny/rollback", {}, status=403)["error"]["code"] == "model_not_owned"
