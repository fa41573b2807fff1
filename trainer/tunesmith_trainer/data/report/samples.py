"""A few rows as the model will see them: text pieces, each with whether it is a target and a special token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tunesmith_trainer.data.rows import Row

_LONGEST = 2000
_SHOWN = 3

Sample = dict[str, Any]


def encoded_samples(encoder: Any, rows: Iterable[Row]) -> list[Sample]:  # noqa: ANN401 - see Task.encoder
    """Return the first rows of tokens that rows become.

    Args:
        encoder: Encodes rows.
        rows: Some rows.

    Returns:
        `{location, pieces: [{text, target, special}]}` of each, at most 3.
    """
    samples: list[Sample] = []
    for encoded in encoder.encode(rows):
        for piece in (part for row in encoded for part in row.parts):
            learned = piece.row.learned
            mask = [0] * len(piece.mask) if learned else piece.mask
            pieces = _pieces(encoder.tokenizer, piece.ids[:_LONGEST], mask)
            pieces += [_label(learned)] if learned else []
            samples.append({"location": piece.row.location, "pieces": pieces})
            if len(samples) == _SHOWN:
                return samples
    return samples


def plain_samples(rows: Iterable[Row]) -> list[Sample]:
    """Return the turns of rows where there is no tokenizer: `{location, pieces: [{role, text, target, special}]}`."""
    samples = []
    for row in rows:
        learned = row.learned
        # Rows of words, or of a question and its context, have no text of their own.
        whole = row.text or " ".join(row.question)
        turns = [(turn.role, turn.text, turn.target) for turn in row.turns] or [("", whole, not learned)]
        pieces = [
            {"role": role, "text": text[:_LONGEST], "target": target, "special": False} for role, text, target in turns
        ]
        pieces += [{"role": "", **_label(learned)}] if learned else []
        samples.append({"location": row.location, "pieces": pieces})
        if len(samples) == _SHOWN:
            break
    return samples


def _label(learned: str) -> dict[str, Any]:
    return {"text": f" → {learned}", "target": True, "special": False}


def _pieces(tokenizer: Any, ids: list[int], mask: list[int]) -> list[dict[str, Any]]:  # noqa: ANN401
    """Return neighbouring tokens of one kind as text."""
    special = set(tokenizer.all_special_ids)
    special |= {id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
    groups: list[tuple[bool, bool, list[int]]] = []
    for id_, target in zip(ids, mask, strict=False):
        kind = (bool(target), id_ in special)
        if not groups or groups[-1][:2] != kind:
            groups.append((*kind, []))
        groups[-1][2].append(id_)
    return [
        {"text": tokenizer.decode(group, skip_special_tokens=False), "target": target, "special": is_special}
        for target, is_special, group in groups
    ]
