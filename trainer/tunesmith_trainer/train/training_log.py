"""`training_log.jsonl`: a JSON object for each step. It reads as one run however often training was resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunesmith_trainer.storage.files import write_atomic


class TrainingLog:
    """Writes the log. A step's line is delayed until the evaluation after it, if any, is known.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, resumed_at: int) -> None:
        """Open the log of a run.

        Args:
            path: The file.
            resumed_at: Step that the run resumes from; lines after it are removed.
        """
        self.path = path
        self._pending: dict[str, Any] | None = None
        kept = [line for line in read_log(path) if line["step"] <= resumed_at]
        write_atomic(path, b"".join(_line(entry) for entry in kept))

    def add(self, entry: dict[str, Any]) -> None:
        """Add a step's entry; it has a `step`."""
        self.flush()
        self._pending = entry

    def amend(self, **values: float) -> None:
        """Add values to the newest entry."""
        if self._pending is not None:
            self._pending.update(values)
            self.flush()

    def flush(self) -> None:
        """Write the delayed line."""
        if self._pending is not None:
            with self.path.open("ab") as file:
                file.write(_line(self._pending))
            self._pending = None


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a log. An incomplete last line, from an interrupted write, is left out."""
    entries = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"
