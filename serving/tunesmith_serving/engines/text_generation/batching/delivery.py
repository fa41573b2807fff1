"""Delivering the events of a decode step to the submitters."""

import contextlib
import time
from collections.abc import Callable, Iterable

from tunesmith_serving.engines.text_generation.batching.sequence import Sequence

DELIVERY_SECONDS = 0.02
"""Tokens of steps that follow one another faster than this are delivered together.

Readers do not notice it, and each delivery takes processor time from the model: it wakes the submitter and the client.
"""


class Delivery:
    """The sequences whose events are not delivered yet."""

    def __init__(self) -> None:
        self._sequences: list[Sequence] = []
        self._delivered = 0.0

    def add(self, sequences: Iterable[Sequence]) -> None:
        """Add sequences with new events."""
        self._sequences.extend(sequences)

    def is_due(self) -> bool:
        """Whether the last delivery was long enough ago."""
        return time.monotonic() - self._delivered >= DELIVERY_SECONDS

    def flush(self) -> None:
        """Deliver all events at once, right before ONNX Runtime runs again and releases the GIL.

        Delivered one by one, they would wake the submitters' threads during sampling, and these would compete for it.
        An event loop is woken once, after the last event: it would take the GIL between two of them.
        """
        wakes: dict[Callable[[], None], None] = {}
        try:
            while self._sequences:  # what a sink that raises leaves behind is delivered by `flush_all`
                if wake := self._sequences[0].flush():
                    wakes[wake] = None
                del self._sequences[0]
        finally:
            for wake in wakes:
                wake()
        self._delivered = time.monotonic()

    def flush_all(self) -> None:
        """Deliver what is left although a sink may raise."""
        for sequence in self._sequences:
            with contextlib.suppress(Exception):
                if wake := sequence.flush():
                    wake()
