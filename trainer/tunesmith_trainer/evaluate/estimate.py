"""How long an evaluation takes: measured on its first batch, told before the rest, and corrected as it goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from tunesmith_trainer.runtime.steps import Tracker, clock

log = logging.getLogger(__name__)

Advance = Callable[[int], None]

_WORTH_A_LINE = 10.0  # seconds


class Estimate:
    """Estimates the time left from the work done and the time that it took."""

    def __init__(self, advance: Advance, what: str, total: int, *, told_after: int = 1) -> None:
        """Start the clock.

        Args:
            advance: What counts the items; it shows the estimate if it is a `Tracker`.
            what: What is done, for the log.
            total: All work, in a unit that takes about the same time everywhere.
            told_after: Work after which the estimate is logged, if it is ten seconds or more.
        """
        self._tracker = advance if isinstance(advance, Tracker) else None
        self._what = what
        self._done, self._left = 0, total
        self._told_after: int | None = told_after
        self._began = time.monotonic()

    def worked(self, amount: int) -> None:
        """Count work that has just been done."""
        self._done += amount
        self._left -= amount
        seconds = self.seconds_left()
        if self._told_after is not None and self._done >= self._told_after:
            self._told_after = None
            if seconds >= _WORTH_A_LINE:
                log.info("%s: about %s", self._what, clock(seconds))
        if self._tracker is not None:
            self._tracker.expect(seconds)

    def skipped(self, amount: int) -> None:
        """Take work from what is left that need not be done."""
        self._left -= amount

    def seconds_left(self) -> float:
        """Return the estimated seconds until the end."""
        return (time.monotonic() - self._began) / max(1, self._done) * max(0, self._left)
