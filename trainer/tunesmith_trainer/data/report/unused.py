"""Columns that a format does not use, with what to write if they were meant to be used."""

from __future__ import annotations

from typing import Any

from tunesmith_trainer.data.columns import columns_line, meant_for, suggest
from tunesmith_trainer.data.formats import RowParser


def unused_columns(parser: RowParser) -> list[dict[str, Any]]:
    """Return `{name, suggestion}` of each column that is not used; the suggestion is None, or lines of a manifest."""
    form = parser.formats[parser.format]
    columns = (*form.required, *form.optional)
    used = {parser.columns.get(name, name) for name in columns}
    used |= {name.split(".")[0] for name in used}
    unused = [name for name in parser.columns_seen if name not in used]
    suggestions: dict[str, str] = {}
    for column in form.optional:
        if parser.columns.get(column, column) not in parser.columns_seen and (
            name := meant_for(column, unused, form.aliases)
        ):
            suggestions[name] = columns_line({**parser.columns, column: name})
    row = {name: value for name, value in parser.first_row.items() if name in unused}
    for other, candidate in parser.formats.items():
        if other is parser.format:
            continue
        line = suggest(row, [candidate.required], candidate.aliases)
        if line is not None:
            for name in row:
                if f": {name}" in line and name not in suggestions:
                    suggestions[name] = f"format: {other.value}, {line}"
    return [{"name": name, "suggestion": suggestions.get(name)} for name in unused]
