"""Rows between requests that nobody uses."""

import pytest

from support.slot_rows import slots


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
