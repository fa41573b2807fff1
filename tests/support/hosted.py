"""The hosted service for tests: on a loopback port, over a database and a folder of its own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import uvicorn
import uvloop

from support.postgres import new_database
from tunesmith_backend.interface.protocol import Backend
from tunesmith_backend.local.backend import LocalBackend
from tunesmith_hosted.config.settings import Settings
from tunesmith_hosted.database.engine import Sessions, connect, sessions_of
from tunesmith_hosted.database.migrate import migrate
from tunesmith_hosted.http.caller import SCOPES
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.process.app import create_app
from tunesmith_hosted.process.run import listen
from tunesmith_hosted.reconcile.loop import run as reconcile
from tunesmith_hosted.tenants.keys import create_key
from tunesmith_hosted.tenants.projects import create_project

BASE = {"name": "tiny", "aliases": ["gpt-4o-mini-2024-07-18"], "model": {"uri": "models/tiny"}, "context_length": 512}


@dataclass
class Hosted:
    """A running service. `key` belongs to the first project, `other_key` to another organisation's."""

    url: str
    key: str
    other_key: str
    settings: Settings
    sessions: Sessions
    loop: asyncio.AbstractEventLoop

    def client(self, key: str | None = None, **options: Any) -> openai.OpenAI:
        """OpenAI's client of the service, without retries."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key, max_retries=0, **options)

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine in the service's loop, and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)


@contextmanager
def serving(folder: Path, backend: Backend, /, console: Path | None = None, **given: Any) -> Iterator[Hosted]:
    """Serve in a thread until the end of the context.

    Args:
        folder: For files, and for the database of SQLite.
        backend: Runs the jobs.
        console: The built console; by default that of the checkout.
        **given: Settings. The database is another if `TUNESMITH_TEST_DATABASE` says so.
    """
    values: dict[str, Any] = {"database": new_database(folder), "files": str(folder / "files")}
    settings = Settings.model_validate({**values, "bases": [BASE], **given})
    ready: list[Hosted] = []
    started, failure = threading.Event(), []

    async def main() -> None:
        engine = connect(settings.database)
        try:
            await migrate(engine)
            sessions = sessions_of(engine)
            keys = []
            async with sessions.begin() as session:
                for organization in ("acme", "rival"):
                    project = await create_project(session, organization, "research", settings.namespace_prefix)
                    keys.append(create_key(session, project.id, "test", scopes=SCOPES).secret)
            app = create_app(Context(settings, sessions, backend, wake_reconciler=lambda: None), console)
            listener = listen("127.0.0.1", 0)
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on", proxy_headers=False))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            ready.append(Hosted(url, keys[0], keys[1], settings, sessions, asyncio.get_running_loop()))
            stop.append(lambda: setattr(server, "should_exit", True))
            started.set()
            await server.serve(sockets=[listener])
        finally:
            await engine.dispose()

    stop: list[Any] = []

    def thread() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())
        except BaseException as error:  # noqa: BLE001 - shown by the test's thread
            failure.append(error)
            started.set()

    runner = threading.Thread(target=thread, daemon=True)
    runner.start()
    assert started.wait(60)
    if failure:
        raise failure[0]
    try:
        yield ready[0]
    finally:
        stop[0]()
        runner.join(30)


@contextmanager
def reconciling(service: Hosted, backend: LocalBackend) -> Iterator[None]:
    """Run a service's reconciler until the end of the context, and then end what the backend runs."""

    async def start() -> tuple[asyncio.Event, asyncio.Task[None]]:
        wake, stop = asyncio.Event(), asyncio.Event()
        context = Context(service.settings, service.sessions, backend, wake.set)
        return stop, asyncio.create_task(reconcile(context, wake, stop))

    async def end(stop: asyncio.Event, task: asyncio.Task[None]) -> None:
        stop.set()
        await task

    stop, task = service.run(start())
    try:
        yield
    finally:
        service.run(end(stop, task))
        service.run(backend.close())
