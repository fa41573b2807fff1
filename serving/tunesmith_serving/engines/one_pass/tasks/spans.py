"""The likeliest spans of a context in what a model computes for its windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """What a model computes for a window.

    Attributes:
        start_logits: [tokens]: how much speaks for each token as the first of the answer; that of the window's first
            token, for there being none.
        end_logits: [tokens]: the same for the last.
        begin: The first token of the context.
        offsets: Characters of the context's tokens.
    """

    start_logits: Logits
    end_logits: Logits
    begin: int
    offsets: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the context.

    Attributes:
        start: Its first character.
        end: The character after its last one.
        score: Its probability.
        window: The window that it is in.
        first: The first token in that window.
        last: The last one.
    """

    start: int
    end: int
    score: float
    window: int
    first: int
    last: int


def best_spans(windows: Sequence[Window], count: int, longest: int) -> tuple[list[Span], float]:
    """Return the likeliest spans, the best first, and the probability that there is no answer.

    A span's probability is that of its first token times that of its last. Among a single window's tokens these are
    those of transformers' pipeline. Of several windows the tokens of all share one distribution, so that spans are in
    the order of the sums of their logits, as in training; that of no answer is the least of all windows'.

    Args:
        windows: The windows, in order.
        count: The most spans.
        longest: The most tokens of a span.
    """
    totals = [_log_sum([_own(window, logits) for window, logits in pairs]) for pairs in _sides(windows)]
    found: list[tuple[float, int, int, int]] = []
    for index, window in enumerate(windows):
        found += [(score, index, first, last) for score, first, last in _best(window, count, longest)]
    found.sort(key=lambda one: -one[0])  # stable: of equal ones the first window's
    spans: dict[tuple[int, int], Span] = {}
    for score, index, first, last in found:
        window = windows[index]
        start, end = window.offsets[first][0], window.offsets[last][1]
        chance = float(np.exp(score - sum(totals)))
        span = Span(start, end, chance, index, window.begin + first, window.begin + last)
        spans.setdefault((start, end), span)
    none = min(float(window.start_logits[0]) + float(window.end_logits[0]) for window in windows)
    return list(spans.values())[:count], float(np.exp(none - sum(totals)))


def _best(window: Window, count: int, longest: int) -> list[tuple[float, int, int]]:
    """Return the best spans of a window: the sum of both logits, first and last token of the context."""
    stop = window.begin + len(window.offsets)
    start = window.start_logits[window.begin : stop].astype(np.float64)
    end = window.end_logits[window.begin : stop].astype(np.float64)
    lengths = min(longest, len(start))
    scores = np.full((len(start), lengths), -np.inf)
    for more in range(lengths):
        scores[: len(start) - more, more] = start[: len(start) - more] + end[more:]
    flat = scores.ravel()
    if count == 1:
        places = [int(flat.argmax())]  # of equal ones the one that begins first
    else:
        places = np.argsort(-flat, kind="stable")[:count].tolist()
    return [
        (float(flat[place]), place // lengths, place // lengths + place % lengths)
        for place in places
        if flat[place] > -np.inf
    ]


def _sides(windows: Sequence[Window]) -> tuple[list[tuple[Window, Logits]], list[tuple[Window, Logits]]]:
    starts = [(window, window.start_logits) for window in windows]
    return starts, [(window, window.end_logits) for window in windows]


def _own(window: Window, logits: Logits) -> npt.NDArray[np.float64]:
    """Return the logits of the context's tokens and of the window's first token."""
    inside = logits[window.begin : window.begin + len(window.offsets)]
    return np.concatenate([logits[:1], inside]).astype(np.float64)


def _log_sum(parts: Sequence[npt.NDArray[np.float64]]) -> float:
    """Return the logarithm of the sum of the exponentials of all numbers."""
    numbers = np.concatenate(parts)
    largest = numbers.max()
    return float(largest + np.log(np.exp(numbers - largest).sum()))
