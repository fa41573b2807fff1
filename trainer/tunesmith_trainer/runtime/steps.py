"""Progress of a stage's steps: a bar in a terminal, log lines elsewhere, and `progress.json` for watchers."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars

from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.runtime.progress import ProgressSink


class StepProgress:
    """Reports what a stage is doing.

    Attributes:
        work: The work folder that holds `progress.json`.
    """

    def __init__(self, work: WorkFolder, stage: Stage, log: logging.Logger) -> None:
        self.work = work
        self._log = log
        self._console = Console(stderr=True)
        self._sink = ProgressSink(work, stage, log)

    def step(self, detail: str) -> None:
        """Report the start of a step, such as "exporting int4"."""
        self._log.info("%s", detail)
        self.update(detail)

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Tracker]:
        """Show the progress of a step; yields a function to call with the number of items just finished."""
        self._sink.restart_log()
        terminal = self._console.is_terminal
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
        )
        with Bars(*columns, console=self._console, disable=not terminal) as bars:
            tracker = Tracker(what, total, self._sink, bars, quiet=terminal)
            tracker.show(always=True)
            yield tracker
        if not terminal:
            self._log.info("%s %d/%d", what, tracker.done, total)
        self.update(f"{what} {tracker.done}/{total}")

    def update(self, detail: str) -> None:
        """Update `progress.json` without a line in the log."""
        self._sink.report({"detail": detail}, always=True)


class Tracker:
    """Counts the finished items of a step, and shows how long the rest takes.

    Attributes:
        done: Items finished.
    """

    def __init__(self, what: str, total: int, sink: ProgressSink, bars: Bars, *, quiet: bool) -> None:
        self.done = 0
        self._what, self._total = what, total
        self._sink, self._bars, self._quiet = sink, bars, quiet
        self._bar = bars.add_task(what, total=total, left="")
        self._started = time.monotonic()
        self._end: float | None = None

    def __call__(self, count: int) -> None:
        """Count items that have just been finished."""
        self.done += count
        self.show()

    def expect(self, seconds: float) -> None:
        """Show that the step takes so many seconds more, instead of what follows from the items finished so far."""
        self._end = time.monotonic() + seconds
        self.show()

    def seconds_left(self) -> float | None:
        """Return the estimated seconds until the end; None while nothing is known."""
        now = time.monotonic()
        if self._end is not None:
            return max(0.0, self._end - now)
        return (now - self._started) / self.done * (self._total - self.done) if self.done else None

    def show(self, *, always: bool = False) -> None:
        """Show the progress, unless it was shown just before."""
        left = self.seconds_left() if self.done < self._total else None
        text = f", {clock(left)} left" if left else ""
        self._bars.update(self._bar, completed=self.done, left=text.removeprefix(", "))
        line = f"{self._what} {self.done}/{self._total}{text}"
        self._sink.report({"detail": line, "etaSeconds": None if left is None else round(left, 1)}, always=always)
        if not self._quiet and self.done < self._total and not always:
            self._sink.log(line)


def clock(seconds: float) -> str:
    """Return a duration as minutes and seconds, or as hours and minutes if it is long."""
    whole = round(seconds)
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min" if whole >= 3600 else f"{whole // 60}:{whole % 60:02d}"
