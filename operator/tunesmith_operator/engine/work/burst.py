"""Postpones work while objects are created faster than they can be fully handled: all work but their first children.

A thousand jobs that are created at once keep the API server busy by themselves. Their Jobs must be created at once;
writing statuses and reconciling again can wait until the burst is over, though never for long.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

NEW_A_SECOND = 20
LONGEST_WAIT_SECONDS = 15.0
_WINDOW_SECONDS = 1.0
_CHECK_SECONDS = 0.25


class CreationBurst(Generic[K]):
    """Detects bursts of new objects, and holds keys back until a burst is over.

    Args:
        release: Called with each key that no longer has to wait.
        clock: Seconds that only go forward.
    """

    def __init__(self, release: Callable[[K], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._release = release
        self._clock = clock
        self._new: deque[float] = deque(maxlen=NEW_A_SECOND)
        self._held: OrderedDict[K, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_on(self) -> bool:
        """Whether so many new objects have come within the last second."""
        return len(self._new) == NEW_A_SECOND and self._clock() - self._new[0] <= _WINDOW_SECONDS

    @property
    def held(self) -> int:
        """How many keys are held back."""
        return len(self._held)

    def note_new(self) -> None:
        """Count a new object."""
        self._new.append(self._clock())

    def hold(self, key: K) -> None:
        """Hold a key back until the burst is over or the longest wait has passed."""
        self._held.setdefault(key, self._clock())
        self._check_later()

    def check(self) -> None:
        """Release the keys that no longer have to wait."""
        is_on, now = self.is_on, self._clock()
        while self._held:
            key, since = next(iter(self._held.items()))
            if is_on and now - since < LONGEST_WAIT_SECONDS:
                break
            del self._held[key]
            self._release(key)

    def _check_later(self) -> None:
        if self._timer is None and self._held:
            self._timer = asyncio.get_running_loop().call_later(_CHECK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.check()
        self._check_later()
