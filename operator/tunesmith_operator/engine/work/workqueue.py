"""The queue of keys to reconcile: every key once, one worker per key, exponential backoff after failures."""

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
    """Waiting keys in two lanes: keys with recent events go before keys that are only checked again, most of the time.

    A key that is added while it is being reconciled, mostly because of its own worker's writes, goes to the second
    lane: under load, new objects do not wait for repeated reconciles of older ones.

    A key that is added while it waits is not added twice. One that is added while it is being reconciled waits until
    that is done, so no key is ever reconciled by two workers at once, and no event is lost.
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
        """How many keys are being reconciled."""
        return len(self._running)

    @property
    def longest_running(self) -> float:
        """Seconds since the start of the oldest running reconcile; 0 if none is running."""
        return self._clock() - min(self._running.values()) if self._running else 0.0

    def add(self, key: K, *, urgent: bool = True) -> None:
        """Add a key to be reconciled as soon as possible.

        Args:
            key: The key of the object.
            urgent: Whether it goes before keys that are not urgent.
        """
        if (handle := self._timers.pop(key, None)) is not None:
            handle.cancel()
        was_urgent = self._waiting.get(key)
        if was_urgent is None or (urgent and not was_urgent):
            self._waiting[key] = urgent and key not in self._running
            if key not in self._running:
                self._enqueue(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Add a key after some seconds, unless it is added earlier."""
        when = asyncio.get_running_loop().time() + seconds
        if key in self._waiting and key not in self._running:
            return
        if (handle := self._timers.get(key)) is not None:
            if handle.when() <= when:
                return
            handle.cancel()
        self._timers[key] = asyncio.get_running_loop().call_at(when, self.add, key)

    def retry(self, key: K) -> None:
        """Add a key that failed again, after a backoff that grows with each consecutive failure (up to a minute)."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self.add_after(key, backoff(failures, FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS))

    def forget(self, key: K) -> None:
        """Reset the failures of a key."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """Return the next key; it belongs to the caller until `done` is called."""
        while True:
            self._turn += 1
            # Every few turns the second lane comes first, so that it moves under any load.
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
        """Mark a key as done."""
        del self._running[key]
        if key in self._waiting:
            self._enqueue(key)

    def clear(self) -> None:
        """Drop all waiting keys, timers and failures."""
        for handle in self._timers.values():
            handle.cancel()
        for store in (self._timers, self._waiting, self._failures, *self._lanes):
            store.clear()

    def _enqueue(self, key: K) -> None:
        self._lanes[0 if self._waiting[key] else 1].append(key)
        self._wakeup.set()
