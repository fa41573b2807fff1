"""Rows longer than a model's sliding window or original rope length: only there it shows if an export lost them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_trainer.data.token_store import TokenStore

BEYOND = 192
"""Tokens of a long row after the length at which the model changes."""
MAX_THRESHOLD = 8192
"""Longest such length that is tried; a longer row would take too much time and memory on a CPU."""


@dataclass(frozen=True)
class LongRow:
    """Validation rows, joined to one that is long enough.

    Attributes:
        ids: Token ids.
        threshold: Position from which the window or the rope scaling matters.
    """

    ids: list[int]
    threshold: int


def long_row(config: Any, store: TokenStore, context: int) -> LongRow | None:  # noqa: ANN401 - a transformers config
    """Return a row that is longer than the model's window and original rope length, or None if it has neither.

    Args:
        config: The model's configuration.
        store: The rows to join.
        context: Longest sequence that the model takes, in tokens.
    """
    lengths = [length for length in _thresholds(config) if 0 < length <= MAX_THRESHOLD and length + 1 < context]
    if not lengths or not len(store.tokens):
        return None
    threshold = max(lengths)
    length = min(threshold + BEYOND, context)
    tokens: npt.NDArray[np.int32] = np.resize(store.tokens, length)  # repeats the rows as often as needed
    return LongRow(tokens.tolist(), threshold)


def _thresholds(config: Any) -> Iterator[int]:  # noqa: ANN401
    """Yield the lengths at which the model's attention or positions change."""
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True):
        yield int(window)
    sources: list[Any] = [vars(config)]
    for name in ("rope_parameters", "rope_scaling"):
        rope = getattr(config, name, None)
        if isinstance(rope, Mapping):
            # Some models have one set of parameters for each type of layer.
            sources += [rope, *(value for value in rope.values() if isinstance(value, Mapping))]
    for source in sources:
        original = source.get("original_max_position_embeddings")
        if original:
            yield int(original)
