"""Checks a file, of which one line is held at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from tunesmith_hosted.fine_tuning.rows.chat import RowError, check_chat
from tunesmith_hosted.fine_tuning.rows.preference import check_preference

Method = Literal["supervised", "dpo"]

MAX_LINE_BYTES = 16 << 20
_SHOWN = 5

_CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {"supervised": check_chat, "dpo": check_preference}


@dataclass(frozen=True)
class Checked:
    """What was found in a file.

    Attributes:
        rows: How many rows it has.
        errors: The first lines that are wrong, each with what is wrong.
        wrong: How many lines are wrong.
    """

    rows: int
    errors: tuple[str, ...] = ()
    wrong: int = 0

    @property
    def message(self) -> str:
        """What is wrong, for people; empty if nothing is."""
        more = f" {self.wrong - len(self.errors)} more lines are wrong." if self.wrong > len(self.errors) else ""
        return " ".join(self.errors) + more


def check_file(file: BinaryIO, method: Method, least: int) -> Checked:
    """Check the rows of a file.

    Args:
        file: The file, from its beginning.
        method: The job's method.
        least: The fewest rows that it may have.
    """
    rows = wrong = number = 0
    errors: list[str] = []
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if len(line) > MAX_LINE_BYTES:
            # What follows cannot be told from this line.
            errors.append(f"Line {number}: is longer than {MAX_LINE_BYTES >> 20} MiB; write one row a line.")
            return Checked(rows, tuple(errors), wrong + 1)
        if not line.strip():
            continue
        rows += 1
        problem = _problem(line, method)
        if problem is not None:
            wrong += 1
            if len(errors) < _SHOWN:
                errors.append(f"Line {number}: {problem}.")
    if not wrong and rows < least:
        return Checked(rows, (f"The file has {rows} example(s), but must have at least {least} examples.",), 1)
    return Checked(rows, tuple(errors), wrong)


def _problem(line: bytes, method: str) -> str | None:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        return "is not UTF-8; save the file as UTF-8"
    except (ValueError, RecursionError) as error:
        return f"is not JSON ({getattr(error, 'msg', 'nested too deep')}); write one JSON object a line"
    if not isinstance(row, dict):
        return 'must be a JSON object, such as {"messages": [...]}'
    try:
        _CHECKS[method](row)
    except RowError as error:
        return str(error)
    return None
