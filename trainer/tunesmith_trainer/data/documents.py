"""The lines of evaluation.jsonl of rows that can become several pieces: one a piece, the first with the row itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith_trainer.data.encode import Encoded

Line = dict[str, Any]


def document_line(piece: Encoded, index: int, is_first_piece: bool, row: Line, own: Line | None = None) -> Line:
    """Return the line of a piece.

    Args:
        piece: The piece.
        index: Its index in the store.
        is_first_piece: Whether it is the first of its row.
        row: What is told of the row, with its first piece.
        own: What is told of the piece.
    """
    if not is_first_piece:
        return {"piece": index, **(own or {})}
    return {"row": index, "location": piece.row.location, "prompt_ids": list(piece.ids), **row, **(own or {})}


def read_documents(path: Path, limit: int) -> Iterator[list[Line]]:
    """Yield the lines of each of the first rows; none if there is no file.

    Args:
        path: The file evaluation.jsonl.
        limit: Most rows.
    """
    if not path.is_file():
        return
    lines: list[Line] = []
    with path.open(encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            if "row" in line and lines:
                yield lines
                limit -= 1
                if limit == 0:
                    return
                lines = []
            lines.append(line)
    if lines:
        yield lines
