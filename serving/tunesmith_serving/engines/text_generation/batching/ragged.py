"""Runs of `model.ragged.onnx`, in which each row can have another number of new tokens."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from tunesmith_serving.engines.text_generation.adapters.rows import AdapterRows
from tunesmith_serving.engines.text_generation.adapters.weights import Adapter
from tunesmith_serving.engines.text_generation.batching.binding import Binding, Session, bind_input, bind_output

RAGGED = "model.ragged.onnx"
MOST_DRAFTS = 64
"""The most drafts that a step checks, of all rows together: each needs its logits."""


class RaggedRuns:
    """What such runs need: their bindings, and memory for their logits."""

    def __init__(
        self,
        session: Session,
        bind_cache: Callable[[Binding, int, int], None],
        adapters: AdapterRows,
        has_positions: bool,
        slots: int,
        vocab_size: int,
    ) -> None:
        """Take the session.

        Args:
            session: The session of the graph.
            bind_cache: Binds the keys and values of successive rows: the first, and how many.
            adapters: Binds the matrices of the rows' adapters.
            has_positions: Whether the graph takes `position_ids`.
            slots: The most rows.
            vocab_size: Tokens of the vocabulary.
        """
        self._session = session
        self._bind_cache = bind_cache
        self._adapters = adapters
        self._has_positions = has_positions
        # Pages that no run has written take no memory.
        self._logits = np.zeros((slots + MOST_DRAFTS, 1, vocab_size), np.float32)
        self._bindings: dict[int, Binding] = {}

    def run(
        self,
        tokens: Sequence[Sequence[int]],
        past: list[int],
        adapters: Sequence[Adapter | None],
        wanted: Sequence[int],
    ) -> npt.NDArray[np.float32]:
        """Run tokens of the first rows; see `OnnxDecoder.decode_several`."""
        rows, count = len(tokens), max(map(len, tokens))
        ids = np.zeros((rows, count), np.int64)
        for row, given in enumerate(tokens):
            ids[row, : len(given)] = given
        lengths = np.array([len(given) for given in tokens], np.int32)
        total = lengths + np.asarray(past)
        mask = (np.arange(total.max()) < total[:, np.newaxis]).astype(np.int64)
        positions = np.asarray(past, np.int64)[:, np.newaxis] + np.arange(count)
        indices = np.array([[(row, index)] for row in wanted for index in range(len(tokens[row]))], np.int64)
        logits = self._logits[: len(indices)]
        binding = self._bindings.get(rows) or self._bind(rows)
        self._adapters.bind(binding, 0, adapters)
        bind_input(binding, "input_ids", ids)
        bind_input(binding, "attention_mask", mask)
        if self._has_positions:
            bind_input(binding, "position_ids", positions)
        bind_input(binding, "query_seqlens", lengths)
        bind_input(binding, "logits_indices", indices)
        bind_output(binding, "logits", logits)
        self._session.run_with_iobinding(binding)
        return logits[:, 0]

    def _bind(self, rows: int) -> Binding:
        """Bind the keys and values, which stay the same for a number of rows."""
        binding = self._bindings[rows] = self._session.io_binding()
        self._bind_cache(binding, 0, rows)
        return binding
