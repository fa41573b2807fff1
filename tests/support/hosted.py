"""The hosted service for tests: on a loopback port, over a database and a folder of its own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openai
import uvicorn
import uvloop

from support.postgres import new_database
from tunesmith_backend.interface.protocol import Backend
from tunesmith_hosted.config.settings import Settings
from tunesmith_hosted.database.engine import Sessions, connect, sessions_of
from tunesmith_hosted.database.migrate import migrate
from tunesmith_hosted.http.caller import SCOPES
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.process.app import create_app
from tunesmith_hosted.process.run import listen
from tunesmith_hosted.reconcile import loop, watches
from tunesmith_hosted.tenants.keys import create_key
from tunesmith_hosted.tenants.projects import create_project

BASE = {"name": "tiny", "aliases": ["gpt-4o-mini-2024-07-18"], "model": {"uri": "models/tiny"}, "context_length": 512}


@dataclass
class Hosted:
    """A running service. `key` belongs to the first project, `other_key` to another organisation's.

    Its `context` sets `wake` where a reconciler would have work.
    """

    url: str
    key: str
    other_key: str
    settings: Settings
    sessions: Sessions
    loop: asyncio.AbstractEventLoop
    context: Context
    wake: asyncio.Event

    def client(self, key: str | None = None, **options: Any) -> openai.OpenAI:
        """OpenAI's client of the service, without retries."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key, max_retries=0, **options)

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine in the service's loop, and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(300)


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
            wake = asyncio.Event()
            context = Context(settings, sessions, backend, wake_reconciler=wake.set)
            app = create_app(context, console)
            listener = listen("127.0.0.1", 0)
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on", proxy_headers=False))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            running = asyncio.get_running_loop()
            ready.append(Hosted(url, keys[0], keys[1], settings, sessions, running, context, wake))
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
    assert started.wait(300)
    if failure:
        raise failure[0]
    try:
        yield ready[0]
    finally:
        stop[0]()
        runner.join(300)


@contextmanager
def reconciling(service: Hosted, backend: Backend) -> Iterator[None]:
    """Run a service's reconciler until the end of the context, and then end what the backend runs."""

    async def start() -> tuple[asyncio.Event, list[asyncio.Task[None]]]:
        stop = asyncio.Event()
        context = replace(service.context, backend=backend)
        return stop, [asyncio.create_task(run(context, service.wake, stop)) for run in (loop.run, watches.run)]

    async def end(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
        stop.set()
        await asyncio.gather(*tasks)

    stop, tasks = service.run(start())
    try:
        yield
    finally:
        service.run(end(stop, tasks))
        service.run(backend.close())
