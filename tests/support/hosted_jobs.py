"""Jobs of the hosted service for tests: files in its store, and its reconciler step by step."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import select

from support.hosted import Hosted
from tunesmith_backend.interface.protocol import Backend
from tunesmith_hosted.database.engine import Sessions
from tunesmith_hosted.database.ids import new_id
from tunesmith_hosted.database.tables import File, Organization, Project
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.reconcile.backend import Objects
from tunesmith_hosted.reconcile.loop import run_once

CHAT = [
    {"messages": [{"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": f"It is {n}."}]}
    for n in range(12)
]


def lines(rows: list[Any]) -> bytes:
    """Return rows as JSONL."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


async def put_file(sessions: Sessions, folder: str, content: bytes, *, key: int = 0, purpose: str = "fine-tune") -> str:
    """Put a file into the store and the database, of the project of the first or second key, and return its id."""
    id = new_id("file")
    path = Path(folder) / f"{id}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    async with sessions.begin() as session:
        projects = (
            (await session.execute(select(Project.id).join(Organization).order_by(Organization.name))).scalars().all()
        )
        session.add(
            File(
                id=id,
                project_id=projects[key],
                filename="rows.jsonl",
                purpose=purpose,
                bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                path=f"{id}.jsonl",
                status="processed",
                created_at=1,
            )
        )
    return id


class Steps:
    """A reconciler of a service that looks when it is told to.

    Args:
        hosted: The service.
        backend: Its backend.
        sessions: Opens sessions; the service's by default.
    """

    def __init__(self, hosted: Hosted, backend: Backend, sessions: Sessions | None = None) -> None:
        self.ahead = 0.0
        self._hosted = hosted
        self._objects = Objects(backend)
        self.context = Context(
            hosted.settings, sessions or hosted.sessions, backend, lambda: None, now=lambda: time.time() + self.ahead
        )

    def look(self, times: int = 1) -> None:
        """Look at everything that is due, so often; time passes between, so that what is looked at again is due."""
        for _ in range(times):
            self._hosted.run(run_once(self.context, self._objects))
            self.ahead += 2

    def until(self, reached: Callable[[], bool], most: int = 60) -> None:
        """Look until something is so."""
        for _ in range(most):
            if reached():
                return
            self.look()
        raise AssertionError("it was not reached")
