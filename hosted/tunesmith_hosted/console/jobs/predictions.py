"""The worst predictions of a job: the validation rows whose answers are farthest from what was expected."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

MOST_SHOWN = 20
_MOST_TEXT = 4000
_GRAM = 3


def worst_rows(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """Return the rows of predictions.jsonl whose answers are not as expected, the worst first.

    Args:
        lines: Its lines. The last may be cut off.

    Returns:
        `{row, location, prompt, reference, before, after, served, score}` of each; `served` by precision. The score is
        from 0 to below 1: the share of the characters, three at a time, that the worst answer has in common.
    """
    found = []
    for line in lines:
        try:
            row = json.loads(line)
            reference = _text(row["reference"])
        except (ValueError, KeyError, TypeError):
            continue
        served = {name: _text(answer) for name, answer in (row.get("served") or {}).items()}
        answers = [*served.values()] or [_text(row.get("after"))]
        score = min(similarity(reference, answer) for answer in answers)
        if score == 1:
            continue
        texts = {name: _text(row.get(name))[:_MOST_TEXT] for name in ("prompt", "before", "after")}
        found.append(
            {
                "row": row.get("row"),
                "location": row.get("location"),
                **texts,
                "reference": reference[:_MOST_TEXT],
                "served": {name: answer[:_MOST_TEXT] for name, answer in served.items()},
                "score": round(score, 4),
            }
        )
    found.sort(key=lambda row: row["score"])
    return found[:MOST_SHOWN]


def similarity(one: str, other: str) -> float:
    """Return how much of two texts is the same, from 0 to 1; 1 only if all is."""
    if one.strip() == other.strip():
        return 1.0
    first, second = _grams(one), _grams(other)
    shared = 2 * (first & second).total() / (first.total() + second.total())
    return min(shared, 0.9999)


def _grams(text: str) -> Counter[str]:
    padded = f"  {text.strip()} "
    return Counter(padded[at : at + _GRAM] for at in range(len(padded) - _GRAM + 1))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
