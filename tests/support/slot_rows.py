"""Rows of requests that are nobody's."""

from types import SimpleNamespace
from typing import Any, cast

from tunesmith_serving.engines.text_generation.batching.slots import Slots


def slots(rows: str) -> Slots:
    """A letter for each row: d decodes, p is in prefill, a point is free."""
    made = Slots(len(rows), 1000)
    for row, letter in enumerate(rows):
        if letter != ".":
            sequence = SimpleNamespace(most_tokens=1)
            made.add(cast("Any", SimpleNamespace(row=row, in_prefill=letter == "p", sequence=sequence)))
    return made
