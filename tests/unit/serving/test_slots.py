"""Rows between requests that nobody uses."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tunesmith_serving.engines.text_generation.batching.slots import Slots


def slots(rows: str) -> Slots:
    """A letter for each row: d decodes, p is in prefill, a point is free."""
    made = Slots(len(rows), 1000)
    for row, letter in enumerate(rows):
        if letter != ".":
            sequence = SimpleNamespace(most_tokens=1)
            made.add(cast("Any", SimpleNamespace(row=row, in_prefill=letter == "p", sequence=sequence)))
    return made


@pytest.mark.parametrize(
    ("rows", "free", "moves"),
    [
        ("....", 0, 0),
        ("dd..", 0, 0),
        ("d.d.", 1, 1),
        ("d.dd", 1, 1),
        ("..dd", 2, 2),
        ("...d", 3, 1),
        ("d..p", 0, 0),
        ("p.dp", 1, 1),
        (".p.d", 2, 1),
    ],
)
def test_gaps_are_counted_and_closed(rows: str, free: int, moves: int) -> None:
    running = slots(rows)
    assert running.count_gaps() == (free, moves)
    assert len(list(running.gaps())) == moves
    assert running.count_gaps() == (0, 0)
