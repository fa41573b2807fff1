"""Progress of long work: a bar in a terminal, log lines elsewhere, and the work folder's progress file."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.runtime.progress_report import report_progress

log = logging.getLogger(__name__)
T = TypeVar("T")

_LOG_SECONDS = 10.0
_FILE_SECONDS = 1.0


class Progress:
    """Tells how far one piece of the prepare stage's work is. Use it as a context manager.

    Attributes:
        work: The job's work folder.
        activity: What is being done, for example "tokenising".
        total: How much there is to do, None when unknown.
        unit: rows or bytes.
    """

    def __init__(self, work: WorkFolder, activity: str, total: int | None, unit: str = "rows") -> None:
        from rich.console import Console
        from rich.progress import Progress as Bars

        self.work, self.activity, self.total, self.unit = work, activity, total, unit
        self.done = 0
        self._logged = self._written = time.monotonic()
        terminal = sys.stderr.isatty()
        self._bars = Bars(console=Console(stderr=True), transient=True, disable=not terminal)
        self._quiet = not terminal
        self._task = self._bars.add_task(activity, total=total)

    def __enter__(self) -> Progress:
        self._bars.start()
        self._write()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()
        self._write()

    def update(self, done: int, total: int | None = None) -> None:
        """Set how much is done, and how much there is in all where that is known only now."""
        self.done, self.total = done, total or self.total
        self._bars.update(self._task, completed=done, total=self.total)
        now = time.monotonic()
        if now - self._written > _FILE_SECONDS:
            self._written = now
            self._write()
        if self._quiet and now - self._logged > _LOG_SECONDS:
            self._logged = now
            log.info("%s: %d of %s %s", self.activity, done, self.total or "?", self.unit)

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, counting them."""
        for item in items:
            yield item
            self.update(self.done + 1)

    def _write(self) -> None:
        # Not as `step`: that is optimizer steps, and none is done here.
        done = f"{self.done:,}" + (f"/{self.total:,}" if self.total is not None else "")
        report_progress(self.work, {"stage": Stage.PREPARE.value, "detail": f"{self.activity} {done} {self.unit}"})
