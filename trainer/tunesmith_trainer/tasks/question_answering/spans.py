"""Finds the answer in what a model computes for the windows of a question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tunesmith_trainer.tasks.question_answering.encoder import Offsets

MAX_ANSWER_TOKENS = 30
"""Longest answer, as in the official evaluation of SQuAD."""

Logits = npt.NDArray[np.float32]


class WindowLogits(NamedTuple):
    """What a model computes for a window.

    Attributes:
        start: float32 [tokens], how much speaks for each token as the first of the answer.
        end: float32 [tokens], the same for the last.
        begin: The first token of the context.
        offsets: Characters of the context's tokens.
    """

    start: Logits
    end: Logits
    begin: int
    offsets: Offsets


class Best(NamedTuple):
    """The best answer of a window.

    Attributes:
        score: Sum of both logits.
        first: Its first character in the context.
        last: The character after its last one.
    """

    score: float
    first: int
    last: int


def best_span(window: WindowLogits) -> Best:
    """Return the best answer within a window's part of the context, of at most 30 tokens.

    The first of equal ones is taken.
    """
    stop = window.begin + len(window.offsets)
    start, end = window.start[window.begin : stop], window.end[window.begin : stop]
    best: tuple[float, int, int] | None = None
    for more in range(min(MAX_ANSWER_TOKENS, len(start))):
        scores = start[: len(start) - more].astype(np.float64) + end[more:]
        first = int(scores.argmax())
        score = float(scores[first])
        if best is None or score > best[0] or (score == best[0] and first < best[1]):
            best = score, first, first + more
    if best is None:
        raise ValueError("the window has no context")
    return Best(best[0], window.offsets[best[1]][0], window.offsets[best[2]][1])


def best_answer(context: str, windows: Sequence[WindowLogits], *, may_have_none: bool) -> str:
    """Return the answer to a question; empty if the first token of all windows has more for it than any answer.

    Args:
        context: The whole context.
        windows: Its windows.
        may_have_none: Whether there can be no answer.
    """
    best = max((best_span(window) for window in windows), key=lambda found: found.score)
    none = min(float(window.start[0]) + float(window.end[0]) for window in windows)
    return "" if may_have_none and none > best.score else context[best.first : best.last].strip()
