"""Progress of the publish stage: a bar in a terminal, log lines elsewhere, and `progress.json` for watchers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.runtime.progress import ProgressSink

log = logging.getLogger(__name__)


class Progress:
    """Reports what the stage is doing.

    Attributes:
        work: The work folder that holds `progress.json`.
    """

    def __init__(self, work: WorkFolder) -> None:
        self.work = work
        self._console = Console(stderr=True)
        self._sink = ProgressSink(work, Stage.PUBLISH, log)

    def step(self, detail: str) -> None:
        """Report the start of a step, such as "exporting int4"."""
        log.info("%s", detail)
        self.update(detail)

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show the progress of a step; yields a function to call with the number of items just finished."""
        done = 0
        self._sink.restart_log()
        self.update(f"{what} 0/{total}")
        terminal = self._console.is_terminal
        with Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not terminal,
        ) as bars:
            bar = bars.add_task(what, total=total)

            def advance(count: int) -> None:
                nonlocal done
                done += count
                bars.advance(bar, count)
                self._sink.report({"detail": f"{what} {done}/{total}"})
                if not terminal and done < total:
                    self._sink.log(f"{what} {done}/{total}")

            yield advance
        if not terminal:
            log.info("%s %d/%d", what, done, total)
        self.update(f"{what} {done}/{total}")

    def update(self, detail: str) -> None:
        """Update `progress.json` without a line in the log."""
        self._sink.report({"detail": detail}, always=True)
