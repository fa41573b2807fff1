"""Reads CSV files: UTF-8, comma-separated, with a header line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from tunesmith_trainer.data.errors import dataset_error, shown
from tunesmith_trainer.data.lines import MAX_ROW_BYTES, read_lines

_QUOTES = 'Put values with commas, quotes or line breaks in quotes: "like, this"; a quote inside is written ""'


def read_csv(path: Path, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield `(FILE:LINE, row)` of a CSV file; LINE is the row's first line. All values are text."""
    csv.field_size_limit(MAX_ROW_BYTES)
    reader = csv.reader((line for _, line in read_lines(path, name)), strict=True)
    header: list[str] | None = None
    while True:
        location = f"{name}:{reader.line_num + 1}"
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise dataset_error(location, f"broken CSV: {error}", _QUOTES) from None
        if not any(values):
            continue
        if header is None:
            header = _check_header(values, location)
        elif len(values) != len(header):
            raise dataset_error(
                location, f"the row has {len(values)} values, the header {len(header)} ({', '.join(header)})", _QUOTES
            )
        else:
            yield location, dict(zip(header, values, strict=True))


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
