"""Requests that started together: one step of all of them, and those that leave."""

from __future__ import annotations

from collections.abc import Sequence as Items

import numpy as np

from tunesmith_serving.engines.encoder_decoder.batching.row import Row
from tunesmith_serving.engines.encoder_decoder.model.translator import OnnxTranslator, State

TOKEN_BUDGET = 16_384
"""The most source tokens of a batch, padding included: one long run of the encoder would hold up the other answers."""

MAX_BATCHES = 2
"""Batches at the same time. More would wait less and compute less together."""


class Batch:
    """Rows of one batch; row i of the state belongs to `rows[i]`."""

    def __init__(self, model: OnnxTranslator, rows: Items[Row], suppressed: Items[int]) -> None:
        """Take the requests; tokens that are `suppressed` are never generated."""
        self.rows = list(rows)
        self._model = model
        self._suppressed = np.asarray(suppressed, np.intp)
        self._state: State | None = None

    def encode(self) -> None:
        """Run the encoder, before the first step."""
        self._state = self._model.encode([row.prompt for row in self.rows])

    def step(self) -> list[Row]:
        """Compute the next token of each row; return those that have ended, which have left the batch."""
        assert self._state is not None  # noqa: S101 - `encode` came first
        logits = self._model.decode(self._state, [row.last_token for row in self.rows])
        if len(self._suppressed):
            logits = logits.copy()
            logits[:, self._suppressed] = -np.inf
        likeliest = logits.argmax(axis=1)
        ended = [row for index, row in enumerate(self.rows) if row.next_token(logits[index], int(likeliest[index]))]
        self.remove(ended)
        return ended

    def remove(self, ended: Items[Row]) -> None:
        """Take rows out of the batch."""
        kept = [index for index, row in enumerate(self.rows) if row not in ended]
        if len(kept) == len(self.rows):
            return
        self.rows = [self.rows[index] for index in kept]
        if kept and self._state is not None:
            self._model.keep(self._state, kept)


def choose(lengths: Items[int], most: int, budget: int = TOKEN_BUDGET) -> list[int]:
    """Choose the requests of the next batch: the oldest, and those whose sources are about as long.

    Args:
        lengths: Tokens of the sources that wait, the oldest first.
        most: The most rows.
        budget: The most tokens, padding included; a single source may have more.

    Returns:
        Their positions, in order.
    """
    oldest = lengths[0]
    chosen, longest = [0], oldest
    for index in sorted(range(1, len(lengths)), key=lambda index: abs(lengths[index] - oldest)):
        if len(chosen) == most:
            break
        wider = max(longest, lengths[index])
        if wider * (len(chosen) + 1) <= budget:
            chosen.append(index)
            longest = wider
    return sorted(chosen)


def may_start(waiting: int, batches: int, free: int, slots: int) -> bool:
    """Return whether a batch should start now.

    Under load one large batch computes more in a run than two small ones. So a second one starts beside it only for all
    that waits, or when most of the first has ended and its last long answers would hold up the others.

    Args:
        waiting: Requests that wait.
        batches: Batches that run.
        free: Slots that no request has.
        slots: Slots in total.
    """
    if not waiting or not free or batches >= MAX_BATCHES:
        return False
    return not batches or waiting <= free or 4 * free >= 3 * slots
