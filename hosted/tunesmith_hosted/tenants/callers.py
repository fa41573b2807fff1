"""Who has a key, remembered for a moment: each request asks, and the database need not."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable

from tunesmith_hosted.database.engine import Sessions
from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.tenants.keys import find_caller

_SECONDS = 2.0  # a key that is revoked at another replica is refused after this
_MOST = 10_000


class Callers:
    """Finds callers by their keys. Keys themselves are not kept; those that are not valid are looked up each time."""

    def __init__(self, sessions: Sessions, clock: Callable[[], float] = time.monotonic) -> None:
        self._sessions = sessions
        self._clock = clock
        self._found: dict[bytes, tuple[float, Caller]] = {}
        self._looking: dict[bytes, asyncio.Task[Caller | None]] = {}
        self._changes = 0

    async def find(self, key: str) -> Caller | None:
        """Return who has a key, None if it is not valid."""
        digest = hashlib.sha256(key.encode()).digest()
        until, caller = self._found.get(digest, (0.0, None))
        if caller is not None and self._clock() < until:
            return caller
        task = self._looking.get(digest)
        if task is None:  # those who ask meanwhile wait for the same
            task = self._looking[digest] = asyncio.create_task(self._look(key, digest))
            task.add_done_callback(
                lambda done: self._looking.pop(digest) if self._looking.get(digest) is done else None
            )
        return await asyncio.shield(task)

    async def _look(self, key: str, digest: bytes) -> Caller | None:
        now, changes = self._clock(), self._changes
        async with self._sessions.begin() as session:
            caller = await find_caller(session, key)
        self._found.pop(digest, None)
        if caller is not None and changes == self._changes:
            if len(self._found) >= _MOST:
                self._found.clear()
            self._found[digest] = (now + _SECONDS, caller)
        return caller

    def forget(self) -> None:
        """Ask the database again, since a key or a project has changed here."""
        self._changes += 1
        self._found.clear()
        self._looking.clear()
