"""Runs the service until it is asked to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import uvicorn

from tunesmith_backend.cluster.backend import ClusterBackend
from tunesmith_backend.cluster.client import ClusterClient
from tunesmith_backend.interface.protocol import Backend
from tunesmith_backend.local.backend import LocalBackend
from tunesmith_hosted.config.settings import Settings
from tunesmith_hosted.database.engine import Sessions
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.process.app import create_app
from tunesmith_hosted.process.background import BACKGROUND, keep_running
from tunesmith_hosted.process.tables import opened
from tunesmith_hosted.tenants.first_project import create_first_project

_BACKGROUND_SECONDS = 10.0


class Server(uvicorn.Server):
    """Leaves signals to us: uvicorn would end the process before the backend has stopped what it runs."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


async def serve(settings: Settings, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then stop what this process runs so that it resumes later.

    On one machine an empty database gets a first project and key.

    Args:
        settings: The settings.
        host: Address to listen on.
        port: Port to listen on; 0 chooses a free one.
        say: Prints a line for people. It is given a key only when one was just created.

    Raises:
        SettingsError: The settings are not enough to serve.
        NotMigratedError: On a cluster, the tables are not those of this version.
        OSError: The address cannot be listened on.
    """
    with closing(listen(host, port)) as listener:
        async with opened(settings) as sessions:
            settings.check_serving()
            backend = await backend_of(settings)
            try:
                url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
                if settings.backend == "local":
                    await _first_project(settings, sessions, url, say)
                await _serve(settings, sessions, backend, listener, lambda: say(f"Serving at {url}/v1; Ctrl-C stops"))
            finally:
                await backend.close()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket whose connections send at once: the head of an answer would hold its body back for 40 ms.

    Raises:
        OSError: The address cannot be listened on.
    """
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def _serve(
    settings: Settings, sessions: Sessions, backend: Backend, listener: socket.socket, started: Callable[[], None]
) -> None:
    wake, stop = asyncio.Event(), asyncio.Event()
    context = Context(settings, sessions, backend, wake_reconciler=wake.set)
    app = create_app(context)
    if isinstance(backend, ClusterBackend):
        backend.client.on_response = app.state.metrics.count_kubernetes
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        proxy_headers=False,  # nothing asks for a client's address
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    server = Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: setattr(server, "should_exit", True))
    tasks = [asyncio.create_task(keep_running(run, context, wake, stop)) for run in BACKGROUND]
    started()
    try:
        await server.serve(sockets=[listener])
    finally:
        stop.set()
        wake.set()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_BACKGROUND_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


async def backend_of(settings: Settings) -> Backend:
    """Return what runs jobs and servers."""
    if settings.backend == "local":
        return LocalBackend(settings.work)
    return ClusterBackend(await ClusterClient.connect(), "tunesmith-hosted", force=True)


async def _first_project(settings: Settings, sessions: Sessions, url: str, say: Callable[[str], None]) -> None:
    async with sessions.begin() as session:
        key = await create_first_project(session, settings.namespace_prefix)
    if key is not None:
        say("A project was made. Its key is shown this once; `tunesmith hosted keys create` makes others.")
        say(f"base_url={url}/v1 api_key={key.secret}")
