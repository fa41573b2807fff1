"""Sampling a token for each of many rows of logits in one pass.

A row gets the token that `sampling.draw` gives it: each of the functions here computes for a matrix of rows what that
module computes for one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_serving.engines.text_generation.batching.sampling import FIRST_CANDIDATES, draw, is_greedy
from tunesmith_serving.engines.text_generation.batching.types import SamplingParams

Matrix = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.intp]
Uniforms = npt.NDArray[np.float64]

# Rows computed together: enough to spread the cost of calling numpy, and few enough for a processor's cache.
_ROWS = 16
_BLOCK = 256
# With more candidates than this, sorting them for all rows costs more than computing row by row.
_MOST_CANDIDATES = 1024


def sample_rows(logits: Matrix, params: Sequence[SamplingParams], uniforms: Uniforms) -> Tokens:
    """Sample a token for each row.

    Args:
        logits: Shape [rows, vocabulary].
        params: The sampling parameters of each row.
        uniforms: A random number from 0 to 1 for each row, shape [rows]; those of greedy rows are not used.

    Returns:
        Token ids, shape [rows].
    """
    tokens = logits.argmax(axis=1)
    vocabulary = logits.shape[1]
    groups: dict[Any, list[int]] = {_by_index: [], _by_logits: [], _by_weights: []}
    for row, row_params in enumerate(params):
        if is_greedy(row_params):
            continue
        if 0 < row_params.top_k < vocabulary:
            groups[_by_logits].append(row)
        else:
            groups[_by_weights if row_params.top_p < 1 else _by_index].append(row)
    for sample, rows in groups.items():
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            tokens[part] = sample(logits[part], [params[row] for row in part], uniforms[part])
    return tokens


def _weights(logits: Matrix, params: Sequence[SamplingParams]) -> Matrix:
    """Return probabilities in proportion; the largest of a row is 1."""
    weights = logits - logits.max(axis=1, keepdims=True)
    weights /= _column([each.temperature for each in params])
    return np.exp(weights, out=weights)


def _column(values: Sequence[float]) -> Matrix:
    return np.asarray(values, np.float32)[:, np.newaxis]


def _by_index(logits: Matrix, params: Sequence[SamplingParams], uniforms: Uniforms) -> Tokens:
    """Sample from all tokens, or from those that min_p leaves, in the order of their ids."""
    weights = _weights(logits, params)
    if any(each.min_p for each in params):
        weights[weights < _column([each.min_p for each in params])] = 0
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


def _by_logits(logits: Matrix, params: Sequence[SamplingParams], uniforms: Uniforms) -> Tokens:
    """Sample from the tokens that top_k, and then top_p and min_p, leave; the most likely first."""
    weights = _weights(logits, params)
    most = max(each.top_k for each in params)
    if most >= _MOST_CANDIDATES:
        return _one_by_one(logits, params, uniforms)
    values, ids = _largest(logits, max(most + 1, FIRST_CANDIDATES))
    found = np.take_along_axis(weights, ids, axis=1)
    last = np.asarray([each.top_k - 1 for each in params])[:, np.newaxis]
    limit = np.take_along_axis(values, last, axis=1)
    # Tokens as likely as the last of the top_k stay, too.
    count = (values >= limit).sum(axis=1)
    complete = (values[:, -1] < limit[:, 0]) | (values.shape[1] == logits.shape[1])
    cumulative = np.cumsum(found, axis=1, dtype=np.float64)
    totals = np.take_along_axis(cumulative, count[:, np.newaxis] - 1, axis=1)
    shares = np.asarray([each.top_p for each in params])[:, np.newaxis]
    within = (cumulative < shares * totals).sum(axis=1) + 1
    count = np.minimum(count, np.where(shares[:, 0] < 1, within, count))
    return _from_first(logits, params, uniforms, (found, ids, cumulative), count, complete)


def _by_weights(logits: Matrix, params: Sequence[SamplingParams], uniforms: Uniforms) -> Tokens:
    """Sample from the tokens that top_p, and then min_p, leave; the most likely first."""
    weights = _weights(logits, params)
    found, ids = _largest(weights, FIRST_CANDIDATES)
    cumulative = np.cumsum(found, axis=1, dtype=np.float64)
    needed = np.asarray([each.top_p for each in params]) * weights.sum(axis=1, dtype=np.float64)
    count = np.minimum((cumulative < needed[:, np.newaxis]).sum(axis=1) + 1, found.shape[1])
    last = np.take_along_axis(found, count[:, np.newaxis] - 1, axis=1)[:, 0]
    is_whole = found.shape[1] == logits.shape[1]
    # If the last one has the weight of the smallest candidate, others that are as likely may have been left out.
    complete = ((cumulative[:, -1] >= needed) & (last > found[:, -1])) | is_whole
    return _from_first(logits, params, uniforms, (found, ids, cumulative), count, complete)


def _largest(values: Matrix, count: int) -> tuple[Matrix, Tokens]:
    """Return the `count` largest values of each row and their positions, largest first, ties by position."""
    vocabulary = values.shape[1]
    count = min(count, vocabulary)
    if count == vocabulary:
        ids = np.broadcast_to(np.arange(vocabulary), values.shape)
    else:
        ids = np.sort(np.argpartition(values, vocabulary - count, axis=1)[:, vocabulary - count :], axis=1)
    found = np.take_along_axis(values, ids, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(ids, order, axis=1)


def _from_first(
    logits: Matrix,
    params: Sequence[SamplingParams],
    uniforms: Uniforms,
    candidates: tuple[Matrix, Tokens, npt.NDArray[np.float64]],
    count: npt.NDArray[np.intp],
    complete: npt.NDArray[np.bool_],
) -> Tokens:
    """Sample from the first `count` candidates of each row; a row whose candidates are not complete on its own.

    Args:
        logits: The rows.
        params: Their sampling parameters.
        uniforms: Their random numbers.
        candidates: Weights, largest first, token ids, and the sums of the weights up to each; all [rows, candidates].
        count: How many of them top_k and top_p leave.
        complete: Whether no candidate is missing.
    """
    weights, ids, cumulative = candidates
    likely = (weights >= _column([each.min_p for each in params])).sum(axis=1)
    last = np.minimum(count, likely)[:, np.newaxis] - 1
    targets = uniforms[:, np.newaxis] * np.take_along_axis(cumulative, last, axis=1)
    index = np.minimum((cumulative <= targets).sum(axis=1, keepdims=True), last)
    tokens = np.take_along_axis(ids, index, axis=1)[:, 0]
    rest = np.flatnonzero(~complete).tolist()
    if rest:
        tokens[rest] = _one_by_one(logits[rest], [params[row] for row in rest], uniforms[rest])
    return tokens


def _one_by_one(logits: Matrix, params: Sequence[SamplingParams], uniforms: Uniforms) -> Tokens:
    drawn = [draw(row, each, float(uniform)) for row, each, uniform in zip(logits, params, uniforms, strict=True)]
    return np.asarray(drawn, np.intp)
