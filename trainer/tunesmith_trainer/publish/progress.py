"""Progress of the publish stage: a bar in a terminal, log lines elsewhere, and `progress.json` for those who watch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.runtime.progress_report import report_progress

log = logging.getLogger(__name__)

_FILE_INTERVAL = 0.5  # seconds between two writes of progress.json
_LOG_INTERVAL = 10.0  # seconds between two log lines where there is no terminal


class Progress:
    """Tells what the stage is doing.

    Attributes:
        work: The work folder whose `progress.json` is written.
    """

    def __init__(self, work: WorkFolder) -> None:
        self.work = work
        self._console = Console(stderr=True)
        self._written = 0.0

    def step(self, detail: str) -> None:
        """Tell the start of a step, such as "exporting int4"."""
        log.info("%s", detail)
        self.tell(detail)

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show the progress of a step; gives a function that takes the number of newly done items out of `total`."""
        done = 0
        logged = time.monotonic()
        self.tell(f"{what} 0/{total}")
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
                nonlocal done, logged
                done += count
                bars.advance(bar, count)
                now = time.monotonic()
                if now - self._written >= _FILE_INTERVAL:
                    self.tell(f"{what} {done}/{total}")
                if not terminal and done < total and now - logged >= _LOG_INTERVAL:
                    log.info("%s %d/%d", what, done, total)
                    logged = now

            yield advance
        if not terminal:
            log.info("%s %d/%d", what, done, total)
        self.tell(f"{what} {done}/{total}")

    def tell(self, detail: str) -> None:
        """Tell what is being done to those who watch the work folder, without a line in the log."""
        report_progress(self.work, {"stage": Stage.PUBLISH.value, "detail": detail})
        self._written = time.monotonic()
