"""Reads CSV and TSV files: UTF-8, with a header line, separated by comma, semicolon, tab or bar."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tunesmith_trainer.data.errors import dataset_error, shown
from tunesmith_trainer.data.lines import MAX_ROW_BYTES, read_lines

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SNIFFED_ROWS = 20
# Excel writes this line before the header, and so do some exports.
_SEPARATOR_LINE = re.compile(r"sep=([,;\t|])\r?\n?", re.IGNORECASE)


def read_csv(path: Path, name: str, *, preferred: str | None = None) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield `(FILE:LINE, row)` of a CSV file; LINE is the row's first line. All values are text.

    Args:
        path: The file.
        name: Name of the file in messages.
        preferred: The delimiter, if the header contains it; by default it is detected.

    Raises:
        StageError: The file is broken, or its delimiter is ambiguous.
    """
    csv.field_size_limit(MAX_ROW_BYTES)
    delimiter, skipped = _detect(path, name, preferred)
    quoting = (
        f"Put values with a {_DELIMITERS.get(delimiter, 'delimiter')}, quotes or line breaks in quotes: "
        f'"like{delimiter} this"; a quote inside is written ""'
    )
    lines = islice((line for _, line in read_lines(path, name)), skipped, None)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        location = f"{name}:{reader.line_num + 1 + skipped}"
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise dataset_error(location, f"broken CSV: {error}", quoting) from None
        if not any(values):
            continue
        if header is None:
            header = _check_header(values, location)
        elif len(values) != len(header):
            raise dataset_error(
                location, f"the row has {len(values)} values, the header {len(header)} ({', '.join(header)})", quoting
            )
        else:
            yield location, dict(zip(header, values, strict=True))


def read_tsv(path: Path, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield `(FILE:LINE, row)` of a TSV file; see `read_csv`."""
    return read_csv(path, name, preferred="\t")


def _detect(path: Path, name: str, preferred: str | None) -> tuple[str, int]:
    """Return the delimiter of a file, and the number of lines before its header.

    It is the only one of the known delimiters in the header. If there are several, it is the only one that gives the
    first rows as many values as the header.
    """
    head = [line for _, line in islice(read_lines(path, name), 4 * _SNIFFED_ROWS)]
    if head and (line := _SEPARATOR_LINE.fullmatch(head[0])):
        return line[1], 1
    header = next((line for line in head if line.strip()), "")
    unquoted = re.sub(r'"[^"]*"', "", header)
    found = [delimiter for delimiter in _DELIMITERS if delimiter in unquoted]
    if preferred in found:
        return preferred, 0
    if len(found) < 2:
        return (found or [","])[0], 0
    fitting = [delimiter for delimiter in found if _fits(head, delimiter)]
    if len(fitting) == 1:
        return fitting[0], 0
    names = " and ".join(f"{_DELIMITERS[delimiter]} ({shown(delimiter)})" for delimiter in found)
    raise dataset_error(
        f"{name}:{head.index(header) + 1}",
        f"the delimiter is ambiguous: the header contains {names}",
        "Put column names that contain one of them in quotes, or write the line sep=, (or sep=; ...) before the header",
    )


def _fits(head: list[str], delimiter: str) -> bool:
    """Return whether the first rows have as many values as the header."""
    try:
        rows = [row for row in csv.reader(head, delimiter=delimiter) if any(row)]
    except csv.Error:
        return False
    complete = rows[: _SNIFFED_ROWS + 1]
    return len(complete) > 1 and len({len(row) for row in complete}) == 1


def _check_header(values: list[str], location: str) -> list[str]:
    """Return the column names. A blank or repeated name is an error."""
    header = [value.strip() for value in values]
    for value in header:
        if not value:
            raise dataset_error(
                location, "a column has no name", "Name each column in the first line: prompt,completion"
            )
        if header.count(value) > 1:
            raise dataset_error(location, f"column {shown(value)} is there twice", "Rename one of the two")
    return header
