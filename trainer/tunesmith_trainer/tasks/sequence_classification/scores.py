"""What a model's logits, or a server's scores, say of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_trainer.tasks.sequence_classification.problem import MULTI, REGRESSION, SINGLE

Scores = npt.NDArray[np.float64]

_SHOWN = 5  # scores of a row in predictions.jsonl
_LEAST = 1e-30  # a chance that is rounded to 0 has no logarithm


def scores_of(logits: npt.NDArray[Any], problem: str) -> Scores:
    """Return the chance of each class, or the number, float64 [outputs].

    Args:
        logits: What the model computed, [outputs].
        problem: The kind of the problem.
    """
    wide = np.asarray(logits, np.float64)
    if problem == SINGLE:
        powers = np.exp(wide - wide.max())
        return np.asarray(powers / powers.sum())
    return np.asarray(0.5 * (1 + np.tanh(wide / 2))) if problem == MULTI else wide


@dataclass(frozen=True)
class Target:
    """What is right for a row.

    Attributes:
        classes: The classes that apply; none of a regression.
        weight: What the row weighs in the loss.
        number: The number of a regression.
    """

    classes: Sequence[int] = ()
    weight: float = 1.0
    number: float = 0.0

    @classmethod
    def of(cls, targets: npt.NDArray[np.float64], problem: str) -> Target:
        """Return what the store has of a row; see `encoder.LabelEncoder`."""
        if problem == REGRESSION:
            return cls(number=float(targets[1]))
        if problem == SINGLE:
            return cls((int(targets[1]),), float(targets[2]))
        return cls(tuple(targets[1:].astype(np.int64).tolist()))


def loss_of(scores: Scores, target: Target, problem: str) -> float:
    """Return the loss of a row without its weight: the mean of its targets.

    Args:
        scores: What `scores_of` returns.
        target: What is right.
        problem: The kind of the problem.
    """
    if problem == REGRESSION:
        return float((scores[0] - target.number) ** 2)
    if problem == SINGLE:
        return float(-np.log(max(scores[target.classes[0]], _LEAST)))
    right = np.zeros(len(scores), np.bool_)
    right[list(target.classes)] = True
    return float(-np.log(np.maximum(np.where(right, scores, 1 - scores), _LEAST)).mean())


def predicted_classes(scores: Scores, problem: str) -> list[int]:
    """Return the most likely class, or those whose chance is above one half."""
    return [int(scores.argmax())] if problem == SINGLE else np.flatnonzero(scores > 0.5).tolist()


def shown_answer(scores: Scores, loss: float, problem: str, labels: Sequence[str]) -> Mapping[str, Any]:
    """Return a row's answer for predictions.jsonl.

    Args:
        scores: What `scores_of` returns.
        loss: The row's loss.
        problem: The kind of the problem.
        labels: The names of the classes.

    Returns:
        `{label, scores, loss}`, `{labels, scores, loss}` or `{number, loss}`. `scores` has those of the most likely
        classes, at most five.
    """
    if problem == REGRESSION:
        return {"number": _short(scores[0]), "loss": _short(loss)}
    names = [labels[index] for index in predicted_classes(scores, problem)]
    best = np.argsort(-scores, kind="stable")[:_SHOWN].tolist()
    chances = {labels[index]: _short(scores[index]) for index in best}
    return {**({"labels": names} if problem == MULTI else {"label": names[0]}), "scores": chances, "loss": _short(loss)}


def _short(value: float) -> float:
    return float(f"{value:.6g}")
