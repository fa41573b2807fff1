"""Replicas of the hosted service as processes, over one database and one backend. Each can be killed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import openai
from sqlalchemy.ext.asyncio import AsyncSession

from support.balancer import Balancer
from support.hosted import BASE
from support.hosted_sites import QuickSite, Site
from support.ports import free_port
from tunesmith_api.local.processes import die_with_parent
from tunesmith_hosted.database.engine import connect, sessions_of
from tunesmith_hosted.database.migrate import migrate
from tunesmith_hosted.http.caller import SCOPES
from tunesmith_hosted.tenants.keys import create_key
from tunesmith_hosted.tenants.projects import create_project

CLAIM_SECONDS = 3.0
Result = TypeVar("Result")


class Replica:
    """A replica. `restart` after `kill`."""

    def __init__(self, port: int, command: list[str], log: Path, environment: dict[str, str]) -> None:
        self.port = port
        self._command, self._log, self._environment = command, log, environment
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        """Start, without waiting until it serves."""
        folder = Path(__file__).resolve().parents[1]
        path = os.pathsep.join([str(folder), str(folder.parent / "hack")])
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment, "PYTHONPATH": path},
                preexec_fn=partial(die_with_parent, os.getpid()),
            )

    def kill(self) -> None:
        """Kill it without warning."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(300)

    def is_ready(self) -> bool:
        """Return whether it answers."""
        if self.process.poll() is not None:
            raise RuntimeError(f"a replica has ended by itself: {self._log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5):
                return True
        except (OSError, urllib.error.URLError):
            return False

    def wait_ready(self) -> None:
        """Return once it answers."""
        while not self.is_ready():
            time.sleep(0.05)

    def peak_bytes(self) -> int:
        """Return the most memory that it has had."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("Linux does not say what a process has had")


class Fleet:
    """Replicas behind a balancer.

    Attributes:
        keys: A key of each project.
        site: Where jobs run.
        command: A command of the service, without its name.
        log: What the replicas have logged.
    """

    def __init__(self, folder: Path, database: str, replicas: int, site: Site, **given: Any) -> None:
        self.folder, self.database, self.site = folder, database, site
        self.log = folder / "service.log"
        self.keys: list[str] = []
        self.namespaces: list[str] = []
        base = {**BASE, "model": {"uri": "/models/tiny"}}
        values = {"database": database, "files": f"file://{folder}/files", "backend": "cluster", "bases": [base]}
        config = folder / "hosted.yaml"  # YAML's superset of JSON
        config.write_text(json.dumps({**values, "reconcile_seconds": 0.2, **site.settings, **given}))
        self.command = [
            sys.executable, "-m", "support.hosted_replica", str(CLAIM_SECONDS), *site.options, "--config", str(config),
        ]  # fmt: skip
        self.in_database(None)
        self.replicas = []
        for _ in range(replicas):
            port = free_port()
            command = [*self.command, "serve", "--port", str(port)]
            self.replicas.append(Replica(port, command, self.log, site.environment))
        for replica in self.replicas:
            replica.wait_ready()
        self.balancer = Balancer([replica.port for replica in self.replicas])
        self.url = f"http://127.0.0.1:{self.balancer.port}/v1"

    def add_project(self, name: str, **quotas: Any) -> str:
        """Add a project with quotas, and return a key of it with all scopes."""

        async def add(session: AsyncSession) -> tuple[str, str]:
            prefix = self.site.settings.get("namespace_prefix", "tunesmith-")
            project = await create_project(session, "acme", name, prefix)
            project.quotas = quotas
            return create_key(session, project.id, "load", scopes=SCOPES).secret, project.namespace

        key, namespace = self.in_database(add)
        self.keys.append(key)
        self.namespaces.append(namespace)
        return key

    def client(self, key: str, replica: Replica | None = None, **options: Any) -> openai.OpenAI:
        """OpenAI's client, of the balancer or of one replica."""
        url = self.url if replica is None else f"http://127.0.0.1:{replica.port}/v1"
        return openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=300, **options)

    def in_database(self, do: Callable[[AsyncSession], Awaitable[Result]] | None) -> Any:
        """Do something with the database, in a transaction; without anything, migrate it."""

        async def main() -> Any:
            engine = connect(self.database)
            try:
                if do is None:
                    return await migrate(engine)
                async with sessions_of(engine).begin() as session:
                    return await do(session)
            finally:
                await engine.dispose()

        return asyncio.run(main())

    def close(self) -> None:
        """Kill all."""
        self.balancer.close()
        for replica in self.replicas:
            replica.kill()


@contextmanager
def running_fleet(
    folder: Path,
    database: str,
    replicas: int = 3,
    seconds: tuple[float, float] = (0.2, 1.0),
    site: Site | None = None,
    **given: Any,
) -> Iterator[Fleet]:
    """Run replicas until the end of the context.

    Args:
        folder: For files, the backend and the log.
        database: URL of an empty database.
        replicas: How many.
        seconds: The shortest and the longest time that a job takes in the backend of the tests.
        site: Where jobs run; by default in that backend.
        **given: Settings.
    """
    fleet = Fleet(folder, database, replicas, site or QuickSite(folder / "backend.sqlite", seconds), **given)
    try:
        yield fleet
    finally:
        fleet.close()
