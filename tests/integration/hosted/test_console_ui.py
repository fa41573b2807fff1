"""`tunesmith ui`: the console over work folders, on this machine alone."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from tunesmith_hosted.console.work_folder.app import create_folder_app

SPEC = {
    "model": {"uri": "hf://tiny/model"},
    "method": "lora",
    "dataset": {"sources": [{"uri": "/data/rows.jsonl"}]},
    "training": {"epochs": 2, "globalBatchSize": 8, "seed": 7},
}
READY = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T01:00:00Z"}


def write(
    root: Path, name: str, *, namespace: str = "default", at: int = 0, pid: int | None = None, **status: Any
) -> Path:
    """Write what `tunesmith run` leaves of a job in a status."""
    folder = root / namespace / name
    folder.mkdir(parents=True)
    begun = {"startTime": f"2026-01-01T00:{at:02}:00Z", **status}
    (folder / "finetunejob-status.json").write_text(json.dumps(begun))
    (folder / "config.json").write_text(json.dumps({"name": name, "namespace": namespace, "spec": SPEC}))
    if pid is not None:
        (folder / "lock").write_text(str(pid))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / ".tunesmith"


@pytest.fixture
def client(root: Path) -> Iterator[TestClient]:
    root.mkdir()
    with TestClient(create_folder_app(root), base_url="http://localhost:8090") as found:
        yield found


def test_a_session_says_what_there_is_not(client: TestClient) -> None:
    found = client.get("/console/api/session").json()
    assert found["project"]["name"] == ".tunesmith" and found["scopes"] == ["fine_tuning", "inference", "models"]
    assert set(found["missing"]) >= {"files", "keys"}
    for method, path, instead in (
        ("GET", "/v1/files", "tunesmith data"),
        ("POST", "/v1/fine_tuning/jobs", "tunesmith run"),
        ("GET", "/v1/organization/projects", "only this machine"),
    ):
        answer = client.request(method, path)
        assert instead in answer.json()["error"]["message"]
        assert answer.status_code == 404 and answer.json()["error"]["code"] == "not_in_this_mode"
        assert "tunesmith hosted" in answer.json()["error"]["message"]


def test_jobs_are_as_their_processes_are(client: TestClient, root: Path) -> None:
    write(root, "runs", at=5, phase="Training", pid=os.getpid(), conditions=[READY])
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    write(root, "killed", at=4, phase="Training", pid=ended.pid)
    failed = {**READY, "reason": "OutOfMemory", "message": "Too large"}
    write(root, "failed", namespace="team", at=3, phase="Failed", conditions=[failed])
    jobs = client.get("/v1/fine_tuning/jobs").json()["data"]
    assert [(job["id"], job["status"]) for job in jobs] == [
        ("default.runs", "running"), ("default.killed", "paused"), ("team.failed", "failed")
    ]  # fmt: skip
    assert jobs[2]["error"] == {"code": "OutOfMemory", "message": "Too large", "param": None}
    assert (jobs[0]["model"], jobs[0]["training_file"], jobs[0]["seed"]) == ("hf://tiny/model", "/data/rows.jsonl", 7)
    detail = client.get("/console/api/jobs/default.killed").json()
    assert "resumes it" in detail["message"] and "epochs: 2" in detail["yaml"]
    page = client.get("/v1/fine_tuning/jobs", params={"limit": 1, "after": "default.runs"}).json()
    assert [job["id"] for job in page["data"]] == ["default.killed"] and page["has_more"]


@pytest.mark.parametrize("id", ["default.none", "..", "default...", "/etc"])
def test_other_ids_are_not_found(client: TestClient, root: Path, id: str) -> None:
    write(root, "runs", phase="Training")
    assert client.get(f"/console/api/jobs/{id}").status_code in (404, 307)
    assert client.get(f"/console/api/models/{id}").status_code in (404, 307)


def test_a_model_that_is_not_served_says_so(client: TestClient, root: Path) -> None:
    folder = write(root, "tiny", phase="Succeeded")
    history = [{"revision": "a", "artifact": str(folder / "artifact"), "time": "2026-01-01T00:00:00Z"}]
    status = {"phase": "Stopped", "revision": "a", "history": history, "endpoint": "http://127.0.0.1:9/v1"}
    (folder / "inferenceworkspace-status.json").write_text(json.dumps(status))
    assert client.get("/v1/models").json()["data"][0]["id"] == "tiny"
    body = {"model": "tiny", "messages": []}
    assert client.post("/v1/chat/completions", json=body).json()["error"]["code"] == "model_not_served"
    (folder / "inferenceworkspace-status.json").write_text(json.dumps({**status, "phase": "Serving"}))
    assert client.post("/v1/chat/completions", json=body).json()["error"]["code"] == "model_not_served"
    assert client.post("/v1/chat/completions", json={"model": "x"}).json()["error"]["code"] == "model_not_found"


def test_only_this_machine_and_this_page_may_ask(client: TestClient) -> None:
    assert client.get("/console/api/session", headers={"host": "evil.example"}).status_code == 400
    foreign = {"origin": "https://evil.example"}
    answer = client.post("/v1/chat/completions", json={"model": "x"}, headers=foreign)
    assert answer.json()["error"]["code"] == "missing_console_header"
    own = {"origin": "http://localhost:8090", "x-tunesmith-console": "1"}
    assert client.post("/v1/chat/completions", json={"model": "x"}, headers=own).status_code == 404


def test_the_command(root: Path) -> None:
    root.mkdir()
    command = [sys.executable, "-m", "tunesmith_cli", "ui", "--work", str(root), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.match(r"Console at (http://127\.0\.0\.1:\d+)/console/ ", process.stdout.readline())
        assert found
        assert "no files and no keys" in process.stdout.readline()
        assert httpx.get(f"{found[1]}/v1/fine_tuning/jobs").json()["data"] == []
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(300) == 0
        process.stdout and process.stdout.close()
    for arguments, message in (
        (["--host", "0.0.0.0"], "only this machine may ask"),
        (["--work", "none"], "tunesmith run"),
    ):
        command = [sys.executable, "-m", "tunesmith_hosted", "ui", "--work", str(root), *arguments]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=root)
        assert refused.returncode == 1 and message in refused.stderr
