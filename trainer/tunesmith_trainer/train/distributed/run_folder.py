"""Files and variables by which the launcher, torchrun and its workers know of one another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_api.contract import outcome_of
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.local.files import read_json, write_json
from tunesmith_trainer.train.exhausted import MemoryExhaustedError

RUN_FOLDER = "TUNESMITH_RUN_FOLDER"
"""Variable: the path of the run folder."""

AGENT_PID = "TUNESMITH_AGENT_PID"
"""Variable: the process ID of torchrun, the workers' parent."""

_STARTED = "started-"


@dataclass(frozen=True)
class RunFolder:
    """A temporary folder on this node, for one attempt at the train stage.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def lock(self) -> Path:
        """Locked by the launcher while it lives."""
        return self.path / "launcher.lock"

    @property
    def interrupt(self) -> Path:
        """Created by the launcher: the workers are to stop."""
        return self.path / "interrupt"

    @property
    def stepped(self) -> Path:
        """Created by a worker when the first step is complete."""
        return self.path / "stepped"

    @property
    def result(self) -> Path:
        """What rank 0 returns."""
        return self.path / "result.json"

    @property
    def exit_codes(self) -> Path:
        """Written by torchrun when a worker failed: `{rank: exit code}`."""
        return self.path / "failures.json"

    @property
    def logs(self) -> Path:
        """The folder of torchrun's own logs."""
        return self.path / "logs"

    def mark_started(self, rank: str) -> None:
        """Record that the worker of a rank has started."""
        (self.path / f"{_STARTED}{rank}").touch()

    def any_started(self) -> bool:
        """Return whether a worker has started."""
        return any(self.path.glob(f"{_STARTED}*"))

    def write_error(self, rank: str, error: StageError) -> None:
        """Record why the worker of a rank failed."""
        when = {"when": error.when} if isinstance(error, MemoryExhaustedError) else {}
        write_json(self.path / f"outcome-{rank}.json", {**outcome_of(error), **when})

    def errors(self) -> list[StageError]:
        """Return the workers' errors, oldest first."""
        paths = sorted(self.path.glob("outcome-*.json"), key=lambda path: path.stat().st_mtime)
        outcomes = [read_json(path) for path in paths]
        return [_error(outcome) for outcome in outcomes if outcome]


def _error(outcome: dict[str, Any]) -> StageError:
    if "when" in outcome:
        return MemoryExhaustedError(outcome["message"], outcome["remedy"], outcome["when"])
    return StageError(Reason(outcome["reason"]), outcome["message"], outcome["remedy"])
