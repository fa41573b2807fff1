"""Sampling a token for each of many rows of logits.

Rows that take the likeliest token are computed in one pass, and so are rows that sample from all tokens. Rows with
top_k, top_p or min_p are computed one by one: finding the few tokens that are left is faster while a row is in the
processor's cache than for a matrix of rows.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tunesmith_serving.engines.text_generation.batching.sampling import draw, is_greedy
from tunesmith_serving.engines.text_generation.batching.types import SamplingParams

Matrix = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.intp]
Uniforms = npt.NDArray[np.float64]

# Rows computed together, few enough for a processor's cache.
_ROWS = 4
_BLOCK = 256


def sample_rows(logits: Matrix, params: Sequence[SamplingParams], uniforms: Uniforms) -> Tokens:
    """Sample a token for each row: the one that `draw` gives it alone.

    Args:
        logits: Shape [rows, vocabulary].
        params: The sampling parameters of each row.
        uniforms: A random number from 0 to 1 for each row, shape [rows]; those of greedy rows are not used.

    Returns:
        Token ids, shape [rows].
    """
    tokens = logits.argmax(axis=1)
    open_rows = []
    for row, each in enumerate(params):
        if is_greedy(each):
            continue
        if 0 < each.top_k < logits.shape[1] or each.top_p < 1 or each.min_p:
            tokens[row] = draw(logits[row], each, float(uniforms[row]))
        else:
            open_rows.append(row)
    for start in range(0, len(open_rows), _ROWS):
        part = open_rows[start : start + _ROWS]
        tokens[part] = _from_all(logits[part], [params[row].temperature for row in part], uniforms[part])
    return tokens


def _from_all(logits: Matrix, temperatures: Sequence[float], uniforms: Uniforms) -> Tokens:
    """Sample from all tokens, in the order of their ids."""
    weights = logits - logits.max(axis=1, keepdims=True)
    weights /= np.asarray(temperatures, np.float32)[:, np.newaxis]
    np.exp(weights, out=weights)
    rows, vocabulary = weights.shape
    # Sums of blocks first: only one block of each row needs the sums up to each of its tokens.
    whole = vocabulary // _BLOCK * _BLOCK
    sums = weights[:, :whole].reshape(rows, -1, _BLOCK).sum(axis=2, dtype=np.float64)
    if whole < vocabulary:
        sums = np.concatenate([sums, weights[:, whole:].sum(axis=1, dtype=np.float64, keepdims=True)], axis=1)
    ends = np.cumsum(sums, axis=1)
    targets = uniforms * ends[:, -1]
    # A block of tokens that cannot be sampled is not chosen, whatever is lost by rounding.
    block = np.minimum((ends <= targets[:, np.newaxis]).sum(axis=1), (ends < ends[:, -1:]).sum(axis=1))
    tokens = np.empty(rows, np.intp)
    for row, first in enumerate(block):
        inside = weights[row, first * _BLOCK : (first + 1) * _BLOCK]
        before = ends[row, first - 1] if first else 0.0
        cumulative = np.cumsum(inside, dtype=np.float64)
        index = int(np.searchsorted(cumulative, targets[row] - before, side="right"))
        last = int(np.searchsorted(cumulative, cumulative[-1]))
        tokens[row] = first * _BLOCK + min(index, last)
    return tokens
