"""Limits how often progress is reported and logged. The stages' own classes decide what is shown."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.runtime.progress_report import report_progress

_REPORT_SECONDS = 0.5
_LOG_SECONDS = 10.0


class ProgressSink:
    """Passes on the progress of a stage: reports at most twice a second, log lines at most every ten seconds.

    Attributes:
        work: The work folder whose `progress.json` is written.
        stage: The stage.
    """

    def __init__(self, work: WorkFolder, stage: Stage, log: logging.Logger) -> None:
        self.work = work
        self.stage = stage
        self._log = log
        self._reported = 0.0
        self.restart_log()

    def restart_log(self) -> None:
        """Start the interval of log lines anew, so that short work logs nothing."""
        self._logged = time.monotonic()

    def report(self, values: Mapping[str, Any], *, always: bool = False) -> None:
        """Report values as the stage's progress. None is left out.

        Args:
            values: Fields of a status's `progress`, without `stage`.
            always: Whether to report although another report was just before.
        """
        now = time.monotonic()
        if always or now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            known = {name: value for name, value in values.items() if value is not None}
            report_progress(self.work, {"stage": self.stage.value, **known})

    def log(self, line: str, *, always: bool = False) -> None:
        """Log a line.

        Args:
            line: The line.
            always: Whether to log it although another line was just before.
        """
        now = time.monotonic()
        if always or now - self._logged >= _LOG_SECONDS:
            self._logged = now
            self._log.info("%s", line)
