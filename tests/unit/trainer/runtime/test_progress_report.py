"""Progress reports: the protocol's form, not too many of them, and no harm when nobody listens."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tunesmith_api import contract
from tunesmith_api.work_folder import WorkFolder
from tunesmith_operator.progress.report import progress_of
from tunesmith_trainer.runtime import progress_report as report

PROGRESS = {
    "stage": "train",
    "step": 3,
    "totalSteps": 12,
    "epoch": 0.5,
    "loss": 1.25,
    "evalLoss": None,
    "tokensPerSecond": 99.5,
    "etaSeconds": 7.9,
    "detail": "naïve",
}


class Server:
    """A progress server.

    Attributes:
        url: Where it listens.
        bodies: What it was sent, with the token.
        block: While set it does not answer.
    """

    def __init__(self) -> None:
        self.bodies: list[tuple[str, dict]] = []
        self.code = 200
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.bodies.append((self.headers["Authorization"], json.loads(body)))
                self.send_response(server.code)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/status"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setattr(report, "_INTERVAL", 0.05)
    monkeypatch.setattr(report, "_AFTER_FAILURE", 0.05)
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def token(tmp_path):
    path = tmp_path / "token"
    path.write_text("secret\n")
    return path


def test_the_body_says_all_values_as_the_operator_reads_them():
    body = report.body_of(PROGRESS)
    status = body["trainerStatus"]
    assert (status["progressPercentage"], status["estimatedRemainingSeconds"]) == (25, 7)
    assert all(isinstance(metric["value"], str) for metric in status["metrics"])
    told = progress_of(json.loads(json.dumps(body)))
    assert told == {key: value for key, value in PROGRESS.items() if value is not None and key != "stage"}


def test_reports_arrive_with_the_newest_token(server, token):
    reporter = report.Reporter(server.url, token, None)
    reporter.submit(PROGRESS)
    assert reporter.flush(5)
    token.write_text("renewed")
    reporter.submit({**PROGRESS, "step": 4})
    assert reporter.flush(5)
    assert [authorization for authorization, _ in server.bodies] == ["Bearer secret", "Bearer renewed"]
    assert progress_of(server.bodies[1][1])["step"] == 4


def test_what_is_overtaken_is_not_sent(server, token, monkeypatch):
    monkeypatch.setattr(report, "_INTERVAL", 0.3)
    reporter = report.Reporter(server.url, token, None)
    for step in range(1, 1000):
        reporter.submit({"step": step})
    assert reporter.flush(5)
    assert len(server.bodies) <= 3
    assert progress_of(server.bodies[-1][1])["step"] == 999


def test_a_server_that_refuses_is_tried_again_with_the_newest(server, token):
    server.code = 500
    reporter = report.Reporter(server.url, token, None)
    reporter.submit({"step": 1})
    assert reporter.flush(5)
    server.code = 200
    reporter.submit({"step": 2})
    assert reporter.flush(5)
    assert progress_of(server.bodies[-1][1])["step"] == 2


def test_nobody_who_listens_costs_no_time(tmp_path, token, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    monkeypatch.setattr(report, "_reporter", None)
    monkeypatch.setenv(contract.PROGRESS_URL, url)
    monkeypatch.setenv(contract.PROGRESS_TOKEN, str(token))
    work = WorkFolder(tmp_path)
    started = time.monotonic()
    for step in range(100):
        report.report_progress(work, {"step": step})
    assert time.monotonic() - started < 1
    assert json.loads(work.progress.read_text()) == {"step": 99}


def test_without_a_server_there_is_only_the_file(tmp_path, monkeypatch):
    monkeypatch.delenv(contract.PROGRESS_URL, raising=False)
    monkeypatch.setattr(report, "_reporter", None)
    report.report_progress(WorkFolder(tmp_path), PROGRESS)
    assert report.reporter() is None
    report.flush_progress()
