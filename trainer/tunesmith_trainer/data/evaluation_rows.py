"""The lines of `evaluation.jsonl`: what a server would be asked about a validation row, and the expected answer."""

from __future__ import annotations

from typing import Any

from tunesmith_trainer.data.encode import Encoded, Encoder

MAX_TEXT_ROWS = 1000
"""Plain texts have a line only so that the server's tokens can be compared, for which the first rows are enough."""


def evaluation_line(encoder: Encoder, piece: Encoded, index: int, is_first_piece: bool) -> dict[str, Any] | None:
    """Return the line of an encoded validation row, or None if it has none.

    Args:
        encoder: The encoder that made it.
        piece: The encoded row. It has the turns that are left if the row was shortened.
        index: Its index in the store.
        is_first_piece: Whether it is the beginning of its row, and not a later piece of a long text.

    Returns:
        `{row, location, messages, prompt_ids, reference}` of a conversation: the turns before the last target,
        their token ids with the generation prompt, and that turn's text; with `tools` if the row has some.
        `{row, location, text}` of a text.
    """
    row = piece.row
    if not row.turns:
        is_needed = is_first_piece and index < MAX_TEXT_ROWS
        return {"row": index, "location": row.location, "text": row.text} if is_needed else None
    last = max(number for number, turn in enumerate(row.turns) if turn.target)
    ids, reference = encoder.prompt_ids(row)
    return {
        "row": index,
        "location": row.location,
        "messages": [turn.request for turn in row.turns[:last]],
        **({"tools": list(row.tools)} if row.tools else {}),
        "prompt_ids": ids,
        "reference": reference,
    }
