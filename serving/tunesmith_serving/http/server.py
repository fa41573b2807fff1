"""Running the application on a socket, from the first byte to an orderly end."""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from tunesmith_serving.engine.types import GenerationEngine
from tunesmith_serving.errors import ServingError
from tunesmith_serving.http.state import ServerState

SIGNALS = (signal.SIGINT, signal.SIGTERM)
POLL_SECONDS = 0.05
# Longer than clients and proxies keep idle connections (60 s or less): whoever closes first must be the one that knows
# whether it is about to use the connection.
KEEP_ALIVE_SECONDS = 75
# What connections that are still open after the last answer get to close.
CLOSE_SECONDS = 2


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; port 0 takes a free one.

    Raises:
        ServingError: The address is in use or not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
    """uvicorn that goes on answering (with 503) while it drains, and whose exit is not the signal's."""

    def __init__(self, config: uvicorn.Config, on_signal: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_signal = on_signal
        self._signals = 0

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals during the run, and put back what was there before."""
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: finish what is in flight. Second: leave now."""
        self._signals += 1
        if self._signals == 1:
            self._on_signal()
        else:
            self.should_exit = self.force_exit = True


async def serve(
    app: FastAPI,
    state: ServerState,
    listener: socket.socket,
    *,
    warm_up: Callable[[], None],
    on_ready: Callable[[], None],
    engine: GenerationEngine,
    drain_seconds: float = 0,
    shutdown_seconds: float,
) -> bool:
    """Serve until SIGTERM or SIGINT, go on for a while unready, then let requests in flight finish.

    Args:
        app: The application.
        state: Its state; `ready`, `leaving` and `draining` are set here.
        listener: A listening socket.
        warm_up: Run on a thread once the server answers; readiness follows its return. What it raises ends the server.
        on_ready: Called once the server is ready.
        engine: What the application generates with; told to drain, and closed when the time is over.
        drain_seconds: How long requests are still taken after the signal.
        shutdown_seconds: How long requests in flight may take after that.

    Returns:
        Whether every request was answered to its end.
    """
    loop = asyncio.get_running_loop()
    leave = asyncio.Event()
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )

    def begin_leaving() -> None:
        state.leaving = True
        leave.set()

    # A signal can arrive in the middle of anything: only the loop acts on it.
    server = _Server(config, lambda: loop.call_soon_threadsafe(begin_leaving))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.to_thread(warm_up)
        if not state.leaving:
            state.ready = True
            on_ready()
        leaving = asyncio.create_task(leave.wait())
        await asyncio.wait({leaving, serving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if state.ready:
            await _drained(server, drain_seconds)
        state.draining = True
        engine.start_draining()
        finished = await _answered(state, shutdown_seconds, server)
        if not finished:
            await asyncio.to_thread(engine.close)  # ends what is left with an error that clients can read
            await _answered(state, CLOSE_SECONDS)
    finally:
        server.should_exit = True
        await serving
    return finished


async def _drained(server: _Server, seconds: float) -> None:
    """Wait until nobody should send anything any more, then end the connections on which nothing more is being asked.

    Those on which nothing was asked yet are left: their first request may be on its way, and gets an answer.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not server.force_exit:
        await asyncio.sleep(POLL_SECONDS)
    for connection in list(server.server_state.connections):
        if getattr(connection, "cycle", None) is not None:
            connection.shutdown()


async def _answered(state: ServerState, seconds: float, server: _Server | None = None) -> bool:
    """Wait until no request is open; False after `seconds`, or when a second signal tells to leave now."""
    deadline = time.monotonic() + seconds
    while state.open_requests:
        if time.monotonic() > deadline or (server is not None and server.force_exit):
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True
