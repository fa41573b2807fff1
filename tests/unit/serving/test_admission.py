"""How many prompt tokens are computed before the next decode step."""

import threading
from collections import deque
from types import SimpleNamespace
from typing import Any, cast

import pytest

from support.slot_rows import slots
from tunesmith_serving.engines.text_generation.batching.admission import Admission

CHUNK, MOST = 128, 512


@pytest.mark.parametrize(
    ("rows", "waiting", "adapters", "tokens"),
    [
        ("........", 1, 0, CHUNK),
        ("........", 2, 0, 2 * CHUNK),
        ("........", 32, 0, MOST),
        ("d.......", 7, 0, MOST),
        ("ddd.....", 5, 0, CHUNK),
        ("d.......", 7, 7, CHUNK),  # those with adapters wait for rows that have their matrices
        ("d.......", 7, 4, 3 * CHUNK),
        ("dddddddp", 28, 0, CHUNK),  # there is no row for those that wait: they gain nothing
        ("d......p", 28, 0, MOST),
    ],
)
def test_more_than_a_chunk_while_more_wait_for_rows_than_decode(
    rows: str, waiting: int, adapters: int, tokens: int
) -> None:
    queue = deque(SimpleNamespace(adapter="one" if index < adapters else None) for index in range(waiting))
    decoder = SimpleNamespace(prefill_chunk=CHUNK, prefill_tokens=MOST)
    admission = Admission(
        cast("Any", decoder), cast("Any", None), slots(rows), cast("Any", queue), threading.Condition()
    )
    assert admission.prefill_tokens() == tokens
