"""What the console shows is the same over each kind of database."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.console_rows import DONE, EARLIER, FAILED, PAUSED, RUNNING, STEPS, TUNED, add_rows
from support.fake_backend import FakeBackend
from support.hosted import BASE, Hosted, serving


@pytest.fixture
def hosted(database_url: str, tmp_path: Path) -> Iterator[Hosted]:
    backend = FakeBackend()
    with serving(tmp_path, backend, database=database_url, bases=[BASE]) as service:
        add_rows(service, backend, tmp_path / "artifact")
        yield service


def test_what_the_console_shows(hosted: Hosted) -> None:
    headers = {"authorization": f"Bearer {hosted.key}"}
    with httpx.Client(base_url=hosted.url, headers=headers, timeout=300) as client:

        def get(path: str) -> dict:
            answer = client.get(path)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        assert get("/console/api/session")["project"]["name"] == "research"
        jobs = [job["id"] for job in get("/v1/fine_tuning/jobs?limit=100")["data"]]
        assert jobs == [RUNNING, PAUSED, FAILED, DONE, "ftjob-cancel01", "ftjob-earlier1"]
        second = get(f"/v1/fine_tuning/jobs?limit=2&after={PAUSED}")
        assert [job["id"] for job in second["data"]] == [FAILED, DONE] and second["has_more"]

        done = get(f"/console/api/jobs/{DONE}")
        assert [point["step"] for point in done["curve"]] == list(range(1, STEPS + 1))
        assert [gate["passed"] for gate in done["gates"]] == [True, True]
        assert get(f"/console/api/jobs/{RUNNING}")["progress"]["step"] == 48
        events = get(f"/v1/fine_tuning/jobs/{DONE}/events?limit=3")["data"]
        assert [event["data"].get("step") for event in events] == [STEPS, STEPS - 1, STEPS - 2]
        (checkpoint,) = get(f"/v1/fine_tuning/jobs/{DONE}/checkpoints")["data"]
        assert checkpoint["step_number"] == STEPS

        assert [model["id"] for model in get("/v1/models")["data"]] == [
            "tiny", TUNED, EARLIER, f"{TUNED}:ckpt-step-{STEPS}",
        ]  # fmt: skip
        assert get(f"/console/api/models/{TUNED}")["id"] == TUNED
        (file,) = get("/v1/files?purpose=fine-tune")["data"]
        assert get(f"/console/api/files/{file['id']}/report")["rows"] > 0
        used = get("/v1/organization/usage/fine_tuning?start_time=0&limit=180&group_by=model")
        assert used["object"] == "page"
