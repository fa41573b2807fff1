"""Reads JSON Lines files, and JSON files with an array of rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from tunesmith_trainer.data.errors import dataset_error, shown
from tunesmith_trainer.data.lines import read_lines

_ONE_A_LINE = "Write one JSON object a line, for example " + '{"prompt": "...", "completion": "..."}'


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _parse(text: str, name: str, first_line: int, remedy: str) -> Any:  # noqa: ANN401 - any JSON value
    """Parse a JSON text that begins at `first_line` of a file."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        location = f"{name}:{first_line + error.lineno - 1}"
        problem, instead = _explain(error) or (error.msg, remedy)
        raise dataset_error(location, f"broken JSON at column {error.colno}: {problem}", instead) from None
    except ValueError as error:  # NaN, Infinity, or a number of thousands of digits
        problem, instead = f"broken JSON: {error}", "Write a number, a text or null instead"
        raise dataset_error(f"{name}:{first_line}", problem, instead) from None
    except RecursionError:
        problem, instead = "the JSON is nested too deeply", "Write rows as flat objects"
        raise dataset_error(f"{name}:{first_line}", problem, instead) from None


def _explain(error: json.JSONDecodeError) -> tuple[str, str] | None:
    """Return the problem and the remedy for common mistakes; None for any other."""
    before, after = error.doc[: error.pos].rstrip(), error.doc[error.pos :].lstrip()
    if (after.startswith(("}", "]")) and before.endswith(",")) or (after.startswith(",") and "Illegal" in error.msg):
        return "there is a comma after the last value", "Remove the comma before the closing bracket"
    if error.msg == "Extra data" and after.strip() == ",":
        return "there is a comma after the row", "Remove the comma at the end of the line"
    if after.startswith("'"):
        return (
            "there is a single quote",
            'JSON has double quotes only: write "..." (Python: json.dumps, not str or repr)',
        )
    if after.startswith(("None", "True", "False")):
        return "this is a Python value, not JSON", "Write null, true or false (Python: json.dumps, not str or repr)"
    return None


def read_jsonl(path: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `(FILE:LINE, row)` of a file with one JSON object per line. Blank lines are skipped."""
    for number, line in read_lines(path, name):
        text = line.strip()
        if not text:
            continue
        location = f"{name}:{number}"
        row = _parse(line.rstrip("\r\n"), name, number, _ONE_A_LINE)
        if not isinstance(row, dict):
            raise dataset_error(location, f"the row is {shown(row)}, not an object", _ONE_A_LINE)
        yield location, row


def read_json_array(path: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `(FILE: row N, row)` of a JSON file: an array of objects, or `{"data": [...]}`."""
    text = "".join(line for _, line in read_lines(path, name))
    value = _parse(text, name, 1, "Write an array of objects: [{...}, {...}], or one object a line in a .jsonl file")
    rows = value.get("data") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise dataset_error(
            name,
            'the file holds neither an array of rows nor {"data": [...]}',
            "Write an array of objects: [{...}, {...}], or one object a line in a .jsonl file",
        )
    for index, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise dataset_error(f"{name}: row {index}", f"the row is {shown(row)}, not an object", "Write {...}")
        yield f"{name}: row {index}", row
