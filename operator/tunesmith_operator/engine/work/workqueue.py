"""The queue of what is to be reconciled: every key once, one worker a key, and waits that grow after failures."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from tunesmith_operator.engine.kube.client import backoff

K = TypeVar("K", bound=Hashable)

FIRST_RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 60.0
_OTHER_LANE_EVERY = 8


class WorkQueue(Generic[K]):
    """Keys that wait, in two lanes: what has just happened goes before what is looked at again, most of the time.

    What is added while it is worked on, mostly by what its own worker writes, counts as looked at again: under load,
    new objects do not wait for the second looks at those before them.

    A key that is added while it waits is not added twice. One that is added while it is worked on waits until that is
    done, so no key is ever worked on by two at a time, and nothing that happens meanwhile is lost.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lanes: tuple[deque[K], deque[K]] = (deque(), deque())
        self._waiting: dict[K, bool] = {}
        self._running: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._wakeup = asyncio.Event()
        self._turn = 0

    @property
    def depth(self) -> int:
        """How many keys wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many keys are being worked on."""
        return len(self._running)

    @property
    def longest_running(self) -> float:
        """Seconds since the oldest key that is still worked on was taken."""
        return self._clock() - min(self._running.values()) if self._running else 0.0

    def add(self, key: K, *, urgent: bool = True) -> None:
        """Let a key be worked on as soon as possible.

        Args:
            key: What is to be reconciled.
            urgent: Whether it goes before those that are not.
        """
        if (handle := self._timers.pop(key, None)) is not None:
            handle.cancel()
        was_urgent = self._waiting.get(key)
        if was_urgent is None or (urgent and not was_urgent):
            self._waiting[key] = urgent and key not in self._running
            if key not in self._running:
                self._enqueue(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Let a key be worked on after a while, unless it is worked on before that anyway."""
        when = asyncio.get_running_loop().time() + seconds
        if key in self._waiting and key not in self._running:
            return
        if (handle := self._timers.get(key)) is not None:
            if handle.when() <= when:
                return
            handle.cancel()
        self._timers[key] = asyncio.get_running_loop().call_at(when, self.add, key)

    def retry(self, key: K) -> None:
        """Let a key that failed be worked on again, later with every failure in a row (up to a minute)."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self.add_after(key, backoff(failures, FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS))

    def forget(self, key: K) -> None:
        """Count the failures of a key from none again."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """Return the next key; it is this caller's until `done` is called."""
        while True:
            self._turn += 1
            # Now and then the other lane comes first, so that it moves under any load.
            for lane in self._lanes if self._turn % _OTHER_LANE_EVERY else reversed(self._lanes):
                while lane:
                    key = lane.popleft()
                    # A key that became urgent stands in both lanes, and is already gone from this one.
                    if key in self._waiting and key not in self._running:
                        del self._waiting[key]
                        self._running[key] = self._clock()
                        return key
            self._wakeup.clear()
            await self._wakeup.wait()

    def done(self, key: K) -> None:
        """Give a key back."""
        del self._running[key]
        if key in self._waiting:
            self._enqueue(key)

    def clear(self) -> None:
        """Drop everything that waits, timers and failures included."""
        for handle in self._timers.values():
            handle.cancel()
        for store in (self._timers, self._waiting, self._failures, *self._lanes):
            store.clear()

    def _enqueue(self, key: K) -> None:
        self._lanes[0 if self._waiting[key] else 1].append(key)
        self._wakeup.set()
