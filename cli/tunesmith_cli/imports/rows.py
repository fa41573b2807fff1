"""Exported files of rows: what kind they are, and lines that are not of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_cli.imports.errors import ImportFailedError

_KINDS = (
    ("messages", frozenset({"messages"})),
    ("openaiPreference", frozenset({"input", "preferred_output", "non_preferred_output"})),
    ("promptCompletion", frozenset({"prompt", "completion"})),
)


@dataclass(frozen=True)
class RowFile:
    """A file of rows.

    Attributes:
        path: Where it is.
        format: As `spec.dataset.format` names it.
        rows: How many there are.
    """

    path: Path
    format: str
    rows: int


def read_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each line that is not empty.

    Raises:
        ImportFailedError: A line is not JSON.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ImportFailedError(f"{path}, line {number}: not JSON: {error}; write one object a line") from None


def inspect(path: Path) -> RowFile:
    """Return what a file of rows is.

    Raises:
        ImportFailedError: Its rows are of no known kind, or of several.
    """
    found: str | None = None
    count = 0
    for number, row in read_rows(path):
        kind = _kind(row, f"{path}, line {number}")
        if found not in (None, kind):
            raise ImportFailedError(
                f"{path}, line {number}: {kind}, while the lines before are {found}; split the file"
            )
        found = kind
        count += 1
    if found is None:
        raise ImportFailedError(f"{path}: there are no rows in it")
    return RowFile(path, found, count)


def _kind(row: Any, where: str) -> str:  # noqa: ANN401 - any JSON value
    if isinstance(row, dict):
        for kind, keys in _KINDS:
            if keys <= row.keys():
                if "functions" in row:
                    raise ImportFailedError(f"{where}: functions is the old form; write tools and tool_calls")
                return kind
    known = "; ".join(", ".join(sorted(keys)) for _, keys in _KINDS)
    raise ImportFailedError(f"{where}: not a row of chat, preferences or completions; write an object with {known}")
