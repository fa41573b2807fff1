"""Progress of long work: a bar in a terminal, log lines elsewhere, and the work folder's progress file."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.runtime.progress import ProgressSink

log = logging.getLogger(__name__)
T = TypeVar("T")
_INTERVAL = 0.1  # seconds between two updates that are shown


class Companion(Protocol):
    """Work that goes on beside an activity, in another thread."""

    def check(self) -> None:
        """Raise the error with which it has failed, if it has."""

    def text(self) -> str:
        """Return what it does and how far it is; empty when it is done."""


class Progress:
    """Reports the progress of one activity of the prepare stage. Use it as a context manager.

    Attributes:
        work: The job's work folder.
        activity: The name of the activity, for example "tokenising".
        total: The amount of work, None if it is unknown.
        unit: rows or bytes.
        beside: What goes on at the same time. If it fails, so does the activity, at the next update.
    """

    def __init__(
        self,
        work: WorkFolder,
        activity: str,
        total: int | None,
        unit: str = "rows",
        beside: Companion | None = None,
    ) -> None:
        from rich.console import Console
        from rich.progress import Progress as Bars

        self.activity, self.total, self.unit, self.beside = activity, total, unit, beside
        self.done = 0
        self._shown = 0.0
        self._sink = ProgressSink(work, Stage.PREPARE, log)
        terminal = sys.stderr.isatty()
        self._bars = Bars(console=Console(stderr=True), transient=True, disable=not terminal)
        self._quiet = not terminal
        self._task = self._bars.add_task(activity, total=total)

    def __enter__(self) -> Progress:
        self._bars.start()
        self._report(always=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()
        self._report(always=True)

    def update(self, done: int, total: int | None = None) -> None:
        """Set the amount done, and the total if it is known only now."""
        self.done, self.total = done, total or self.total
        if self.beside is not None:
            self.beside.check()
        now = time.monotonic()
        if now < self._shown + _INTERVAL:
            return
        self._shown = now
        self._bars.update(self._task, completed=done, total=self.total, description=self._with_beside(self.activity))
        self._report()
        if self._quiet:
            self._sink.log(self._with_beside(f"{self.activity}: {done} of {self.total or '?'} {self.unit}"))

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items and count them."""
        for item in items:
            yield item
            self.update(self.done + 1)

    def _report(self, *, always: bool = False) -> None:
        # Not as `step`, which counts optimizer steps.
        done = f"{self.done:,}" + (f"/{self.total:,}" if self.total is not None else "")
        self._sink.report({"detail": self._with_beside(f"{self.activity} {done} {self.unit}")}, always=always)

    def _with_beside(self, text: str) -> str:
        other = self.beside.text() if self.beside is not None else ""
        return f"{text}, {other}" if other else text
