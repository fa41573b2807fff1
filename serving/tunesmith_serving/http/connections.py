"""Connections of clients that stop in the middle: how long they are kept."""

import asyncio
import json
import resource
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tunesmith_serving.http.errors import ApiError

HEAD_SECONDS = 30
"""Within this a new connection must have sent the head of its first request."""
BODY_SECONDS = 300
"""Within this a request's body must have come."""
UNREAD_SECONDS = 120
"""A client that reads nothing of what was sent for so long is taken for dead."""
_IDLE_SECONDS, _PROBE_SECONDS, _PROBES = 60, 15, 4


def detect_dead_clients(listener: socket.socket) -> None:
    """Let the kernel end connections, accepted on a socket, whose client has vanished or does not read."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _IDLE_SECONDS),
        ("TCP_KEEPINTVL", _PROBE_SECONDS),
        ("TCP_KEEPCNT", _PROBES),
        ("TCP_USER_TIMEOUT", UNREAD_SECONDS * 1000),
    ):
        if hasattr(socket, name):  # not all of them are on every system
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def allow_many_connections() -> None:
    """Raise this process's limit of open files, which each connection is one of, as far as it may itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with limits on the time that a client takes to send a request.

    Attributes:
        head_seconds: Seconds for the head of a request, counted from the connection's or the request's beginning.
        body_seconds: Seconds for its body.
    """

    head_seconds: float = HEAD_SECONDS
    body_seconds: float = BODY_SECONDS
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait(self.head_seconds, "the head of a request")

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Wait for the rest of a request's head."""
        super().on_message_begin()
        self._wait(self.head_seconds, "the head of a request")

    def on_headers_complete(self) -> None:
        """Wait for its body."""
        super().on_headers_complete()
        self._wait(self.body_seconds, "the body of a request")

    def on_message_complete(self) -> None:
        """Wait for nothing more; uvicorn limits how long a connection is idle between requests."""
        super().on_message_complete()
        self._stop_waiting()

    def _wait(self, seconds: float, what: str) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, self._give_up, seconds, what)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self, seconds: float, what: str) -> None:
        """Answer with 408 unless an answer has begun, and close the connection."""
        self._timer = None
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            error = ApiError(408, f"{what} did not come within {seconds:g} seconds; send it again", code="timeout")
            body = json.dumps(error.body).encode()
            head = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: application/json\r\n"
            self.transport.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        self.transport.close()
