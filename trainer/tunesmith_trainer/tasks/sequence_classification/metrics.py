"""Metrics of classes and of numbers, as scikit-learn and SciPy define them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Booleans = npt.NDArray[np.bool_]
Classes = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tally:
    """What metrics of classes are computed from.

    Attributes:
        hits: Rows of each class that have it and are predicted to, int64 [classes].
        right: Rows that have it, int64 [classes].
        given: Rows that are predicted to, int64 [classes].
        accuracy: Share of the rows that are predicted exactly.
    """

    hits: Classes
    right: Classes
    given: Classes
    accuracy: float

    @classmethod
    def of_classes(cls, expected: Classes, predicted: Classes, classes: int) -> Tally:
        """Count rows with one class each, int64 [rows]."""
        equal = expected == predicted
        hits, right, given = (np.bincount(rows, minlength=classes) for rows in (expected[equal], expected, predicted))
        return cls(hits, right, given, float(equal.mean()))

    @classmethod
    def of_sets(cls, expected: Booleans, predicted: Booleans) -> Tally:
        """Count rows with several labels: whether each applies, bool [rows, classes]."""
        hits, right, given = (found.sum(axis=0) for found in (expected & predicted, expected, predicted))
        return cls(hits, right, given, float((expected == predicted).all(axis=1).mean()))

    @property
    def f1(self) -> Numbers:
        """F1 of each class, float64 [classes]; 0 where it has no value, as in scikit-learn by default."""
        found: Numbers = 2 * self.hits / np.maximum(self.right + self.given, 1)
        return found

    def metrics(self, *, sets: bool) -> dict[str, float]:
        """Return `{accuracy, macroF1}`.

        macroF1 is the mean of the F1 of the classes, as scikit-learn's `f1_score(average="macro")` computes it: of rows
        with one class each, over the classes that are expected or predicted somewhere; of rows with several, over all.

        Args:
            sets: Whether rows have several labels.
        """
        counted = np.ones(len(self.right), np.bool_) if sets else self.right + self.given > 0
        return {"accuracy": self.accuracy, "macroF1": float(self.f1[counted].mean())}

    def table(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        """Return `{label, precision, recall, f1, support}` of each class that is expected or predicted somewhere.

        Args:
            labels: The names of the classes.
        """
        return [
            {
                "label": labels[index],
                "precision": float(self.hits[index] / max(self.given[index], 1)),
                "recall": float(self.hits[index] / max(self.right[index], 1)),
                "f1": float(self.f1[index]),
                "support": int(self.right[index]),
            }
            for index in np.flatnonzero(self.right + self.given).tolist()
        ]


def number_metrics(expected: Numbers, predicted: Numbers) -> dict[str, float | None]:
    """Return `{mse, spearman}`: the mean squared error, and Spearman's rank correlation, None if it has no value.

    Args:
        expected: The right numbers, float64 [rows].
        predicted: The predicted ones, float64 [rows].
    """
    ranks = _ranks(expected), _ranks(predicted)
    varies = all(len(found) > 1 and np.ptp(found) > 0 for found in ranks)
    spearman = float(np.corrcoef(*ranks)[0, 1]) if varies else None
    return {"mse": float(np.mean((expected - predicted) ** 2)), "spearman": spearman}


def _ranks(numbers: Numbers) -> Numbers:
    """Return the rank of each number, float64 [n]; equal ones have the mean of theirs."""
    _, inverse, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    found: Numbers = (ends - (counts - 1) / 2)[inverse]
    return found


def confusions(labels: Sequence[str], expected: Classes, predicted: Classes) -> list[dict[str, Any]]:
    """Return `{label, predicted, rows}` of each pair of a class and what it was taken for, in the order of classes.

    Args:
        labels: The names of the classes.
        expected: The right classes, int64 [rows].
        predicted: The predicted ones, int64 [rows].
    """
    pairs, counts = np.unique(np.stack([expected, predicted], axis=1), axis=0, return_counts=True)
    return [
        {"label": labels[right], "predicted": labels[given], "rows": int(rows)}
        for (right, given), rows in zip(pairs.tolist(), counts.tolist(), strict=True)
    ]
