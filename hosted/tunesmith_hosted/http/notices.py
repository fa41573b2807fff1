"""Tells those who wait in this process that something has changed, so that they need not ask the database for it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Notices:
    """Changes of subjects, by the outbox's names of them. What another replica has changed is told nobody here."""

    def __init__(self) -> None:
        self._listening: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def tell(self, subject: str) -> None:
        """Wake those who wait for a subject."""
        for event in self._listening.get(subject, ()):
            event.set()

    @contextmanager
    def listening(self, subject: str) -> Iterator[asyncio.Event]:
        """Give an event that is set when the subject has changed; clear it before each look."""
        event = asyncio.Event()
        self._listening[subject].add(event)
        try:
            yield event
        finally:
            self._listening[subject].discard(event)
            if not self._listening[subject]:
                del self._listening[subject]
