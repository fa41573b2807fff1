"""Runs of `model.ragged.onnx`, in which each row can have another number of new tokens."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_serving.engines.text_generation.adapters.rows import RowAdapter
from tunesmith_serving.engines.text_generation.batching.runs import KeptRuns

MOST_DRAFTS = 64
"""The most drafts that a step checks, of all rows together: each needs its logits."""


def attention_mask(total: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """Return a mask, [rows, most tokens], of rows that have so many tokens with their new ones."""
    return (np.arange(total.max()) < total[:, np.newaxis]).astype(np.int64)


class RaggedRuns:
    """What such runs need: their bindings, and memory for their logits."""

    def __init__(self, runs: KeptRuns, has_positions: bool, slots: int, vocab_size: int) -> None:
        """Take the runs.

        Args:
            runs: Runs of the graph with keys and values bound.
            has_positions: Whether the graph takes `position_ids`.
            slots: The most rows.
            vocab_size: Tokens of the vocabulary.
        """
        self._runs = runs
        self._has_positions = has_positions
        # Pages that no run has written take no memory.
        self._logits = np.zeros((slots + MOST_DRAFTS, 1, vocab_size), np.float32)

    def run(
        self,
        tokens: Sequence[Sequence[int]],
        past: list[int],
        adapters: Sequence[RowAdapter],
        wanted: Sequence[int],
        last_only: bool = False,
    ) -> npt.NDArray[np.float32]:
        """Run tokens of the first rows; see `OnnxDecoder.decode_several`."""
        rows, count = len(tokens), max(map(len, tokens))
        ids = np.zeros((rows, count), np.int64)
        for row, given in enumerate(tokens):
            ids[row, : len(given)] = given
        lengths = np.array([len(given) for given in tokens], np.int32)
        mask = attention_mask(lengths + np.asarray(past))
        positions = np.asarray(past, np.int64)[:, np.newaxis] + np.arange(count)
        first = {row: len(tokens[row]) - 1 if last_only else 0 for row in wanted}
        indices = np.array([[(row, i)] for row in wanted for i in range(first[row], len(tokens[row]))], np.int64)
        logits = self._logits[: len(indices)]
        run = self._runs.begin(adapters, ids.size)
        run.read(input_ids=ids, attention_mask=mask, query_seqlens=lengths, logits_indices=indices)
        if self._has_positions:
            run.read(position_ids=positions)
        run.write(logits=logits)
        run.compute()
        return logits[:, 0]
