"""Keys, rows of data and names of one project are found nowhere but where they belong, whatever goes wrong."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from support.hosted_fleet import Fleet, running_fleet
from support.hosted_jobs import CHAT, lines
from tunesmith_hosted.database.tables import Table

ROW, NAME, SUFFIX, NOTE = "canary-row-7f3a", "canary-name-91bc", "canary5d1e", "canary-note-2c88"
HIDDEN = "canary-hidden-66"
PLACES = {
    ROW: set(),
    NAME: {"files.filename", "uploads.filename"},
    SUFFIX: {
        "jobs.suffix",
        "jobs.request",
        "jobs.fine_tuned_model",
        "models.id",
        "checkpoints.model",
        "job_events.message",
    },
    NOTE: {"jobs.user_metadata", "jobs.request"},
    HIDDEN: set(),
}
"""The columns that may have each canary."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    postgres = request.getfixturevalue("postgres")
    with running_fleet(tmp_path_factory.mktemp("fleet"), postgres.create_database(), 2) as running:
        yield running


def rows_with(text: str) -> list[Any]:
    turn = [{"role": "user", "content": text}, {"role": "assistant", "content": f"{text} again"}]
    return [*CHAT, {"messages": turn}]


def wait_ended(client: openai.OpenAI, job: str) -> Any:
    deadline = time.monotonic() + 300
    while (found := client.fine_tuning.jobs.retrieve(job)).status not in ("succeeded", "failed", "cancelled"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def plant(fleet: Fleet, client: openai.OpenAI, key: str) -> tuple[list[str], str]:
    """Do what goes well and what goes wrong with canaries in it; return the project's own ids, and all answers."""
    answers = []

    def attempt(method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
        answer = httpx.request(method, f"{fleet.url}{path}", headers=headers, timeout=300, **options)
        answers.append(answer.text)
        return answer

    good = client.files.create(file=(f"{NAME}.jsonl", lines(rows_with(ROW))), purpose="fine-tune").id
    wrong = [*rows_with(ROW), {"messages": [{"role": "robot", "content": ROW}]}, {"unknown": ROW}]
    bad = client.files.create(file=(f"{NAME}.jsonl", lines(wrong)), purpose="fine-tune").id
    jobs = client.fine_tuning.jobs
    made = [
        jobs.create(model="tiny", training_file=id, suffix=SUFFIX, metadata={"note": NOTE}).id for id in (good, bad)
    ]
    ended = [wait_ended(client, id) for id in made]
    assert [job.status for job in ended] == ["succeeded", "failed"]
    for id in made:
        answers.append(attempt("GET", f"/fine_tuning/jobs/{id}/events").text)
    attempt("POST", "/files", files={"file": (NAME, f'{{"{ROW}'.encode())}, data={"purpose": "fine-tune"})
    attempt(
        "POST", "/fine_tuning/jobs", content=f'{{"{HIDDEN}": '.encode(), headers={"content-type": "application/json"}
    )
    attempt("POST", "/chat/completions", json={"model": "tiny", "messages": [{"role": "user", "content": HIDDEN}]})
    attempt("GET", f"/files/{HIDDEN}")
    attempt("GET", f"/{HIDDEN}?key={key}")
    attempt("GET", "/models", headers={"Authorization": f"Bearer {key}{HIDDEN}"})
    return [good, bad, *made], "\n".join(answers)


def test_nothing_is_where_it_should_not_be(fleet: Fleet) -> None:
    key, other = fleet.add_project("canary"), fleet.add_project("rival")
    client, rival = fleet.client(key), fleet.client(other)
    own, answers = plant(fleet, client, key)
    assert ROW not in answers, "events and errors name lines, not what they say"

    async def everything(session: AsyncSession) -> dict[str, str]:
        found: dict[str, str] = {}
        for table in Table.metadata.sorted_tables:
            for row in (await session.execute(select(table))).mappings():
                for column, value in row.items():
                    found[f"{table.name}.{column}"] = found.get(f"{table.name}.{column}", "") + json.dumps(value)
        return found

    columns = fleet.in_database(everything)
    for canary, allowed in PLACES.items():
        assert {column for column, text in columns.items() if canary in text} <= allowed, canary
    secret = key.split("-", 3)[3]
    assert not [column for column, text in columns.items() if key in text or secret in text]

    log = fleet.log.read_text()
    metrics = "".join(httpx.get(f"http://127.0.0.1:{one.port}/metrics").text for one in fleet.replicas)
    assert "ftjob" not in metrics and '"route": "/v1/fine_tuning/jobs"' in log
    for text in (*PLACES, secret, SUFFIX):
        assert text not in log and text not in metrics, text

    seen = []
    for id in own:
        for path in (
            f"/files/{id}",
            f"/files/{id}/content",
            f"/fine_tuning/jobs/{id}",
            f"/fine_tuning/jobs/{id}/events",
        ):
            seen.append(httpx.get(f"{fleet.url}{path}", headers={"Authorization": f"Bearer {other}"}))
    assert {answer.status_code for answer in seen} == {404}
    listed = [rival.files.list(), rival.fine_tuning.jobs.list(), rival.models.list()]
    foreign = "".join([answer.text for answer in seen] + [page.model_dump_json() for page in listed])
    assert not [text for text in (*PLACES, "canary", key, client.models.list().data[-1].id) if text in foreign]


def test_a_revoked_key_is_refused_by_another_replica(fleet: Fleet) -> None:
    key, admin = fleet.add_project("revoked"), fleet.add_project("admins")
    first, second = (fleet.client(key, replica) for replica in fleet.replicas)
    first.models.list()
    second.models.list()
    projects = httpx.get(f"{fleet.url}/organization/projects", headers={"Authorization": f"Bearer {admin}"}).json()[
        "data"
    ]
    (project,) = [item["id"] for item in projects if item["name"] == "revoked"]
    path = f"http://127.0.0.1:{fleet.replicas[0].port}/v1/organization/projects/{project}/api_keys"
    headers = {"Authorization": f"Bearer {admin}"}
    (row,) = httpx.get(path, headers=headers).json()["data"]
    assert httpx.delete(f"{path}/{row['id']}", headers=headers).status_code == 200
    until = time.monotonic() + 5  # what is promised
    with pytest.raises(openai.AuthenticationError):
        first.models.list()
    with pytest.raises(openai.AuthenticationError):
        while time.monotonic() < until:
            second.models.list()
            time.sleep(0.05)
