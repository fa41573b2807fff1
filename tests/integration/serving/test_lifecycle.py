"""Starting, filling up, shutting down: one process each."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from support.serving_process import ServingProcess, wait_until

BASE = ("--precision", "fp32", "--model-name", "tiny", "--threads", "1", "--context-length", "512")
ENDLESS = {"model": "tiny", "prompt": [5], "max_tokens": 511, "temperature": 1, "seed": 1, "stream": True}


def slots_and_queue(server: ServingProcess) -> tuple[float, float]:
    lines = dict(line.rsplit(" ", 1) for line in httpx.get(f"{server.url}/metrics").text.splitlines() if line[0] != "#")
    return float(lines["tunesmith_slots_in_use"]), float(lines["tunesmith_queue_length"])


class Stream(threading.Thread):
    """Reads a stream on a thread and keeps its lines."""

    def __init__(self, server: ServingProcess, **options: Any) -> None:
        super().__init__(daemon=True)
        self.url = f"{server.url}/v1/completions"
        self.options = options
        self.lines: list[str] = []
        self.status = 0
        self.start()

    def run(self) -> None:
        with httpx.stream("POST", self.url, json={**ENDLESS, **self.options}, timeout=300) as response:
            self.status = response.status_code
            self.lines.extend(line for line in response.iter_lines() if line)


def test_full_queue_answers_429_and_recovers(artifact: Path) -> None:
    with ServingProcess(artifact, *BASE, "--slots", "1", "--max-queue", "1") as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        start = threading.Barrier(8)
        answered: list[str] = []
        refused: list[openai.RateLimitError] = []

        def ask() -> None:
            start.wait()
            try:
                answered.append(client.completions.create(**{**ENDLESS, "stream": False}).choices[0].text)
            except openai.RateLimitError as error:
                refused.append(error)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
        assert len(answered) + len(refused) == 8
        assert len(answered) >= 2
        assert refused
        for error in refused:
            assert int(error.response.headers["retry-after"]) >= 1
            assert error.code == "queue_full"
        assert len(set(answered)) == 1
        assert client.completions.create(model="tiny", prompt="x", max_tokens=2).usage is not None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_shutdown_finishes_what_is_in_flight(artifact: Path, number: signal.Signals) -> None:
    with ServingProcess(artifact, *BASE, "--slots", "1", "--max-queue", "8") as server:
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        streams = [Stream(server) for _ in range(8)]
        wait_until(lambda: all(stream.status == 200 for stream in streams))
        server.process.send_signal(number)
        wait_until(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
        refused = httpx.post(f"{server.url}/v1/completions", json=ENDLESS)
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        for stream in streams:
            stream.join(300)
            assert stream.lines[-1] == "data: [DONE]"
        assert server.process.wait(300) == 0


def test_shutdown_has_a_limit(artifact: Path) -> None:
    with ServingProcess(artifact, *BASE, "--slots", "1", "--shutdown-seconds", "0.1") as server:
        streams = [Stream(server) for _ in range(8)]
        wait_until(lambda: slots_and_queue(server)[1] >= 4)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(300) == 1
        _, stderr = server.process.communicate()
        assert "were cut off" in stderr
        assert "Traceback" not in stderr
        for stream in streams:
            stream.join(300)
        assert any("the server is shutting down" in stream.lines[-1] for stream in streams)


def test_a_server_that_leaves_still_answers_for_a_while(artifact: Path) -> None:
    with (
        ServingProcess(artifact, *BASE, "--drain-seconds", "600") as server,
        httpx.Client(base_url=server.url, timeout=300) as client,
    ):
        ask = {**ENDLESS, "stream": False, "max_tokens": 2}
        assert "connection" not in client.post("/v1/completions", json=ask).headers
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
        # On the connection that is open already, and on a new one: each is told to go elsewhere next time.
        for answer in (client.post("/v1/completions", json=ask), client.post("/v1/completions", json=ask)):
            assert answer.status_code == 200
            assert answer.headers["connection"] == "close"
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        stream = Stream(server)
        stream.join(300)
        assert stream.lines[-1] == "data: [DONE]"
        server.process.send_signal(signal.SIGTERM)  # enough
        assert server.process.wait(300) == 0
        _, stderr = server.process.communicate()
        assert stderr == ""


def test_no_request_is_lost_when_a_server_leaves(artifact: Path) -> None:
    """Clients with open connections, and a balancer that sends new connections elsewhere only after a second."""
    options = (*BASE, "--slots", "4", "--drain-seconds", "3")
    with ServingProcess(artifact, *options) as leaving, ServingProcess(artifact, *options) as staying:
        balancer = {"target": leaving.url}
        over = threading.Event()
        answers: list[tuple[str, int | str]] = []
        body = json.dumps({**ENDLESS, "stream": False, "max_tokens": 3})

        def ask_again_and_again() -> None:
            connection, target = None, ""
            while not over.is_set():
                if connection is None:
                    target = balancer["target"]
                    connection = http.client.HTTPConnection(target.removeprefix("http://"), timeout=300)
                try:
                    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
                    response = connection.getresponse()
                    response.read()
                    answers.append((target, response.status))
                    if response.getheader("connection") == "close":
                        connection.close()
                        connection = None
                except (OSError, http.client.HTTPException) as error:
                    answers.append((target, repr(error)))
                    connection = None
                over.wait(0.2)

        threads = [threading.Thread(target=ask_again_and_again) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answers) > 8)
        leaving.process.send_signal(signal.SIGTERM)
        threading.Timer(1.0, balancer.update, [{"target": staying.url}]).start()
        assert leaving.process.wait(300) == 0
        seen = len(answers)
        wait_until(lambda: len(answers) > seen + 8)
        over.set()
        for thread in threads:
            thread.join(300)
    assert {status for _, status in answers} == {200}
    assert {target for target, _ in answers} == {leaving.url, staying.url}


def test_idle_connections_are_closed_at_the_end_of_the_drain(artifact: Path) -> None:
    with ServingProcess(artifact, *BASE, "--drain-seconds", "0.5", "--shutdown-seconds", "600") as server:
        host, port = server.url.removeprefix("http://").split(":")
        address = (host, int(port))
        with socket.create_connection(address, timeout=300) as idle, socket.create_connection(address) as slow:
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += idle.recv(4096)
            assert b"200 OK" in answer
            # A request that is still being sent keeps the server from ending.
            slow.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
            )
            assert b"100 Continue" in slow.recv(4096)
            server.process.send_signal(signal.SIGTERM)
            assert idle.recv(4096) == b""
            assert server.process.poll() is None
        assert server.process.wait(300) == 0


def test_a_second_signal_ends_the_drain(artifact: Path) -> None:
    with ServingProcess(artifact, *BASE, "--drain-seconds", "600") as server:
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(300) == 0


def test_idle_shutdown(artifact: Path) -> None:
    with ServingProcess(artifact, *BASE) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(300) == 0
        _, stderr = server.process.communicate()
        assert stderr == ""


def test_api_key(artifact: Path) -> None:
    with ServingProcess(artifact, *BASE, env={"TUNESMITH_API_KEY": "secret"}) as server:
        good = openai.OpenAI(base_url=f"{server.url}/v1", api_key="secret", max_retries=0)
        assert [model.id for model in good.models.list()] == ["tiny"]
        bad = openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0)
        for call in (
            bad.models.list,
            lambda: bad.completions.create(model="tiny", prompt="x"),
            lambda: bad.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x"}]),
        ):
            with pytest.raises(openai.AuthenticationError):
                call()
        assert httpx.get(f"{server.url}/v1/models").status_code == 401
        for path, body in (("/tokenize", {"prompt": "x"}), ("/detokenize", {"tokens": [5]})):
            for key, status in (("wrong", 401), ("secret", 200)):
                sent = {"Authorization": f"Bearer {key}"}
                assert httpx.post(server.url + path, json=body, headers=sent).status_code == status
        for path in ("/healthz", "/readyz", "/metrics"):
            assert httpx.get(server.url + path).status_code == 200


def test_a_server_that_loads_can_be_ended() -> None:
    code = (
        "import tunesmith_serving.process.command as server, time, sys\n"
        "server.run_server = lambda *_: (print('loading', flush=True), time.sleep(600))\n"
        "sys.exit(server.main(['--artifact', 'x']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        process.terminate()
        _, stderr = process.communicate(timeout=300)
    assert (process.returncode, stderr) == (143, "")


def test_port_in_use(artifact: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "tunesmith_serving", "--artifact", str(artifact), "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.strip().endswith(
        f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another host or port"
    )
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
@pytest.mark.parametrize(("given", "found"), [(None, "glibc.malloc.hugetlb=1"), ("", "")])
def test_the_weights_are_in_huge_pages_unless_the_c_library_is_told_something(
    given: str | None, found: str, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    with ServingProcess(artifact, *BASE, env=None if given is None else {"GLIBC_TUNABLES": given}) as server:
        variables = Path(f"/proc/{server.process.pid}/environ").read_bytes().split(b"\0")
        assert f"GLIBC_TUNABLES={found}".encode() in variables
        assert httpx.get(f"{server.url}/readyz").status_code == 200
