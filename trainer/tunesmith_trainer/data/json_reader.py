"""Reads JSON Lines files, and JSON files with an array of rows, row by row."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from tunesmith_trainer.data.errors import dataset_error, shown
from tunesmith_trainer.data.lines import MAX_ROW_BYTES, read_lines, read_pieces, too_long

_ARRAY = "Write an array of objects: [{...}, {...}], or one object a line in a .jsonl file"
_COMMA = ("there is a comma after the last value", "Remove the comma before the closing bracket")
_NOT_SPACE = re.compile(r"[^ \t\n\r]")
_LOOKAHEAD = 16  # characters after an error's place that decide whether it is one: those of -Infinity or \\u1234\\u1234
_ONE_A_LINE = "Write one JSON object a line, for example " + '{"prompt": "...", "completion": "..."}'


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _parse(text: str, name: str, line: int, remedy: str) -> Any:  # noqa: ANN401 - any JSON value
    """Parse a line of a file."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise broken_json(f"{name}:{line}", error.colno, error, remedy) from None
    except ValueError as error:  # NaN, Infinity, or a number of thousands of digits
        raise _unusable(f"{name}:{line}", error) from None
    except RecursionError:
        raise _too_deep(f"{name}:{line}") from None


def broken_json(location: str, column: int, error: json.JSONDecodeError, remedy: str) -> Exception:
    """Return the error for a text that is not JSON."""
    problem, instead = _explain(error) or (error.msg, remedy)
    return dataset_error(location, f"broken JSON at column {column}: {problem}", instead)


def _unusable(location: str, error: ValueError) -> Exception:
    return dataset_error(location, f"broken JSON: {error}", "Write a number, a text or null instead")


def _too_deep(location: str) -> Exception:
    return dataset_error(location, "the JSON is nested too deeply", "Write rows as flat objects")


def _explain(error: json.JSONDecodeError) -> tuple[str, str] | None:
    """Return the problem and the remedy for common mistakes; None for any other."""
    before, after = error.doc[: error.pos].rstrip(), error.doc[error.pos :].lstrip()
    if (after.startswith(("}", "]")) and before.endswith(",")) or (after.startswith(",") and "Illegal" in error.msg):
        return _COMMA
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
    """Yield `(FILE: row N, row)` of a JSON file: an array of objects, or `{"data": [...]}`. One row is in memory."""
    text = _Text(read_pieces(path, name), name)
    number = 0
    for row in _rows_of(text, name):
        number += 1
        if not isinstance(row, dict):
            raise dataset_error(f"{name}: row {number}", f"the row is {shown(row)}, not an object", "Write {...}")
        yield f"{name}: row {number}", row


def _rows_of(text: _Text, name: str) -> Iterator[Any]:
    """Yield the items of the array in a file."""
    found = text.next == "["
    if found:
        yield from _items(text)
    elif text.next == "{":
        text.take("{")
        while text.next != "}":
            key = text.value() if text.next == '"' else text.fail("Expecting property name enclosed in double quotes")
            text.take(":")
            if key == "data" and text.next == "[":
                found = True
                yield from _items(text)
            else:
                found &= key != "data"
                text.value()
            if text.next != "}":
                text.take(",")
                if text.next == "}":
                    text.fail(*_COMMA)
        text.take("}")
    else:
        text.value()
    if text.next:
        text.fail("Extra data")
    if not found:
        raise dataset_error(name, 'the file holds neither an array of rows nor {"data": [...]}', _ARRAY)


def _items(text: _Text) -> Iterator[Any]:
    text.take("[")
    while text.next != "]":
        yield text.value()
        if text.next != "]":
            text.take(",")
            if text.next == "]":
                text.fail(*_COMMA)
    text.take("]")


class _Text:
    """A JSON text that is read and parsed value by value."""

    def __init__(self, pieces: Iterator[str], name: str) -> None:
        self._pieces, self._name = pieces, name
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)
        self._text, self._at, self._ended = "", 0, False
        self._line, self._column = 1, 0  # line of the text's beginning, and characters of this line before it

    @property
    def next(self) -> str:
        """The next character that is not white space; empty at the end of the text."""
        while True:
            if found := _NOT_SPACE.search(self._text, self._at):
                self._at = found.start()
                return found[0]
            self._at = len(self._text)
            if not self._read(1):
                return ""

    def take(self, mark: str) -> None:
        """Go on after a mark, which must be next."""
        if self.next != mark:
            self.fail(f"Expecting '{mark}' delimiter")
        self._at += 1

    def value(self) -> Any:  # noqa: ANN401 - any JSON value
        """Return the value that is next."""
        _ = self.next
        while True:
            try:
                found, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                broken = self._broken(error)  # now, since reading on moves the text
                if not self._may_go_on(error):
                    raise broken from None
            except ValueError as error:
                raise _unusable(self._location(self._at), error) from None
            except RecursionError:
                raise _too_deep(self._location(self._at)) from None
            else:
                # A number may go on in the next piece.
                length = end - self._at
                is_whole = self._text[end - 1] in '}]"' or end + _LOOKAHEAD < len(self._text)
                if is_whole or not self._read(1):
                    self._at += length
                    return found

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Return whether a value may only be cut; then more is read."""
        waiting = len(self._text) - self._at
        is_cut = error.pos + _LOOKAHEAD >= len(self._text) or error.msg.startswith("Unterminated string")
        if is_cut and waiting > MAX_ROW_BYTES:
            raise too_long(self._location(self._at))
        return is_cut and self._read(waiting)

    def _read(self, characters: int) -> bool:
        """Read at least so many more characters, unless the text ends; return whether there were any."""
        before = self._text[: self._at]
        if newlines := before.count("\n"):
            self._line += newlines
            self._column = 0
        self._column += len(before) - 1 - before.rfind("\n")
        pieces = [self._text[self._at :]]
        while characters > 0 and not self._ended:
            piece = next(self._pieces, None)
            self._ended = piece is None
            pieces.append(piece or "")
            characters -= len(piece or "")
        self._text, self._at = "".join(pieces), 0
        return len(self._text) > len(pieces[0])

    def fail(self, problem: str, remedy: str = _ARRAY) -> NoReturn:
        """Raise the error for what is next."""
        _ = self.next
        raise self._broken(json.JSONDecodeError(problem, self._text, self._at), remedy)

    def _broken(self, error: json.JSONDecodeError, remedy: str = _ARRAY) -> Exception:
        line_start = self._text.rfind("\n", 0, error.pos) + 1
        column = error.pos - line_start + 1 + (0 if line_start else self._column)
        return broken_json(self._location(error.pos), column, error, remedy)

    def _location(self, place: int) -> str:
        return f"{self._name}:{self._line + self._text.count(chr(10), 0, place)}"
