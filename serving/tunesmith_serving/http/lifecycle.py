"""The life of a server on its socket: warm-up, readiness, and an orderly end after a signal."""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from tunesmith_serving.engines.base import Engine, EngineFailedError
from tunesmith_serving.http.connections import Connection, allow_many_connections, detect_dead_clients
from tunesmith_serving.http.state import ServerState
from tunesmith_serving.runtime.errors import ServingError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
WARM_UP_SECONDS = 600
POLL_SECONDS = 0.05
# Longer than clients and proxies keep idle connections (60 s or less): the client must close first, because only the
# client knows whether it is about to send a request.
KEEP_ALIVE_SECONDS = 75
# The time that connections still open after the last response have to close.
CLOSE_SECONDS = 2


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address; port 0 takes a free one.

    Raises:
        ServingError: The address is in use or does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. asyncio sets it where a socket's protocol is named TCP, which is not so of accepted ones;
    # without it the body of a response, written after its head, waits 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    detect_dead_clients(listener)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise ServingError(f"cannot listen on {host}:{port}: {reason}; choose another host or port") from None
    listener.setblocking(False)
    return listener


class _Server(uvicorn.Server):
    """uvicorn with signal handling of its own: it keeps answering while it drains, and exits with a code."""

    def __init__(self, config: uvicorn.Config, on_signal: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_signal = on_signal
        self._signals = 0

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals during the run, and restore the previous handlers afterwards."""
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle the first signal by finishing requests in flight, the second by exiting now."""
        self._signals += 1
        if self._signals == 1:
            self._on_signal()
        else:
            self.should_exit = self.force_exit = True


async def serve(
    app: FastAPI,
    state: ServerState,
    engine: Engine,
    listener: socket.socket,
    *,
    on_ready: Callable[[], None],
    drain_seconds: float = 0,
    shutdown_seconds: float,
) -> bool:
    """Serve until SIGTERM or SIGINT, stay reachable for a while without being ready, then finish requests in flight.

    Args:
        app: The application.
        state: Its state; `ready`, `terminating` and `draining` are set here.
        engine: The application's engine: it is warmed up, later drained, and closed if it does not finish in time.
        listener: A listening socket.
        on_ready: Called once the server is ready.
        drain_seconds: How long requests are still accepted after the signal.
        shutdown_seconds: How long requests in flight may take after that.

    Returns:
        Whether every request was answered to its end.

    Raises:
        ServingError: The model does not run.
    """
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()

    def begin_terminating() -> None:
        state.terminating = True
        signalled.set()

    allow_many_connections()
    # A signal can interrupt any code: only the loop may act on it.
    server = _Server(_uvicorn_config(app), lambda: loop.call_soon_threadsafe(begin_terminating))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.to_thread(_warm_up, engine)
        if not state.terminating:
            state.ready = True
            on_ready()
        await _first_of(signalled, serving)
        if state.ready:
            await _keep_answering(server, drain_seconds)
        finished = await _drain(server, state, engine, shutdown_seconds)
    finally:
        server.should_exit = True
        await serving
    return finished


def _uvicorn_config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_level="error",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )


def _warm_up(engine: Engine) -> None:
    try:
        engine.warm_up(WARM_UP_SECONDS)
    except (EngineFailedError, TimeoutError) as error:
        raise ServingError(f"the model loads but does not run: {error}; export it again") from None


async def _first_of(signalled: asyncio.Event, serving: asyncio.Task[None]) -> None:
    """Wait for the signal, or for the server to end if it fails first."""
    signal_task = asyncio.create_task(signalled.wait())
    await asyncio.wait({signal_task, serving}, return_when=asyncio.FIRST_COMPLETED)
    signal_task.cancel()


async def _keep_answering(server: _Server, seconds: float) -> None:
    """Accept requests while clients and load balancers switch to other servers, then close idle connections.

    A connection that has not sent a request yet stays open: its first request may be on its way and is answered.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not server.force_exit:
        await asyncio.sleep(POLL_SECONDS)
    for connection in list(server.server_state.connections):
        if getattr(connection, "cycle", None) is not None:
            connection.shutdown()


async def _drain(server: _Server, state: ServerState, engine: Engine, seconds: float) -> bool:
    """Refuse new requests and finish those in flight; return whether all were finished in time."""
    state.draining = True
    engine.start_draining()
    finished = await _all_answered(state, seconds, server)
    if not finished:
        await asyncio.to_thread(engine.close)  # ends the remaining requests with an error that clients can read
        await _all_answered(state, CLOSE_SECONDS)
    return finished


async def _all_answered(state: ServerState, seconds: float, server: _Server | None = None) -> bool:
    """Wait until no request is open; return False after `seconds`, or when a second signal demands the exit."""
    deadline = time.monotonic() + seconds
    while state.open_requests:
        if time.monotonic() > deadline or (server is not None and server.force_exit):
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True
