"""A server among clients that are slow, gone, half-open and wrong; tests/bench/chaos.py does this for an hour."""

import asyncio
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import uvicorn

from support.chaos import Chaos, state_of
from support.serving_process import ServingProcess, drained, wait_until
from tunesmith_serving.http.connections import Connection
from tunesmith_serving.http.lifecycle import bind

EXCHANGES = 400
HALF_OPEN = 1000


def test_bad_clients_harm_no_good_ones_and_leave_nothing(artifact: Path) -> None:
    with ServingProcess(artifact, "--slots", "4", "--max-queue", "32", "--precision", "fp32") as server:
        log = drained(server.process)
        chaos = Chaos(server.url, "", random.Random(5))
        _, chaos.expected = asyncio.run(chaos.ask())
        before = state_of(server.url, server.process.pid)

        async def load() -> None:
            half_open = [asyncio.create_task(chaos.half_open(4)) for _ in range(HALF_OPEN)]
            await chaos.run(lambda: chaos.seen.total() < EXCHANGES, 12)
            await asyncio.gather(*half_open)

        asyncio.run(load())

        def is_clear() -> bool:
            now = state_of(server.url, server.process.pid)
            return now.slots == now.waiting == 0 and now.files <= before.files + 2

        assert chaos.wrong == []
        assert chaos.seen["good 200"] > 10
        assert chaos.seen["half open"] == HALF_OPEN
        wait_until(is_clear)
        assert log == [], "a bad client must not fill the log"


@contextmanager
def serving(kind: type[Connection]) -> Iterator[int]:
    """Serve an application that reads bodies; yields the port."""

    async def app(scope, receive, send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, http=kind, lifespan="off", log_level="critical"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


class Impatient(Connection):
    head_seconds = 0.2
    body_seconds = 0.2


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (b"", "the head of a request"),
        (b"POST / HTTP/1.1\r\nHost: a\r\n", "the head of a request"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab", "the body of a request"),
    ],
)
def test_half_a_request_is_not_waited_for_for_ever(sent: bytes, what: str) -> None:
    with serving(Impatient) as port, closing(socket.create_connection(("127.0.0.1", port), timeout=300)) as client:
        client.sendall(sent)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert f"{what} did not come within 0.2 seconds".encode() in answer


def test_a_response_leaves_at_once() -> None:
    """Without TCP_NODELAY its body waits for the client to acknowledge its head."""
    with closing(bind("127.0.0.1", 0)) as listener:
        with closing(socket.create_connection(listener.getsockname())):
            listener.setblocking(True)
            accepted, _ = listener.accept()
            with closing(accepted):
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000
