"""Who has a key, remembered for a moment: each request asks, and the database need not."""

from __future__ import annotations

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

    async def find(self, key: str) -> Caller | None:
        """Return who has a key, None if it is not valid."""
        digest, now = hashlib.sha256(key.encode()).digest(), self._clock()
        until, caller = self._found.get(digest, (0.0, None))
        if caller is not None and now < until:
            return caller
        async with self._sessions.begin() as session:
            caller = await find_caller(session, key)
        self._found.pop(digest, None)
        if caller is not None:
            if len(self._found) >= _MOST:
                self._found.clear()
            self._found[digest] = (now + _SECONDS, caller)
        return caller

    def forget(self) -> None:
        """Ask the database again, since a key or a project has changed here."""
        self._found.clear()
