"""Answers that have come, a line each: what was asked is not asked again after an interruption."""

from __future__ import annotations

import fcntl
import json
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from tunesmith_cli.imports.errors import ImportFailedError


class Journal:
    """A file of answers by the keys of their requests. One process has it at a time.

    Args:
        path: The file; its folder exists.

    Attributes:
        answers: The answers so far.

    Raises:
        ImportFailedError: Another process has it, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ImportFailedError(f"{path} is being written by another process; wait until it has ended") from None
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break  # the process has ended while it wrote
            try:
                entry = json.loads(line)
                self.answers[entry["key"]] = entry
            except (ValueError, KeyError, TypeError):
                self._file.close()
                raise ImportFailedError(f"{path}, line {number}: damaged; remove the line") from None
            whole += len(line)
        self._file.truncate(whole)

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Write down an answer."""
        entry = {"key": key, **entry}
        with self._lock:
            self._file.write(json.dumps(entry).encode() + b"\n")
            self._file.flush()
            self.answers[key] = entry

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
