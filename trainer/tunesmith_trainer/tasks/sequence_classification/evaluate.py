"""Evaluation of a model, or of what a server answers, on the validation rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.tasks.sequence_classification.metrics import Tally, confusions, number_metrics
from tunesmith_trainer.tasks.sequence_classification.problem import MULTI, REGRESSION, SINGLE
from tunesmith_trainer.tasks.sequence_classification.scores import (
    Scores,
    Target,
    loss_of,
    predicted_classes,
    scores_of,
    shown_answer,
)

_MAX_ROWS = 64
_MAX_TOKENS = 4096


class RowResults:
    """Collects what is predicted for rows."""

    def __init__(self, store: TokenStore, rows: int, problem: str, labels: Sequence[str]) -> None:
        """Start without any.

        Args:
            store: The validation rows, a `LabelledStore`.
            rows: Number of rows, from the first, that are evaluated.
            problem: The kind of the problem.
            labels: The names of the classes.
        """
        self._store, self._problem, self._labels = store, problem, labels
        self._targets = [Target.of(store[index][2], problem) for index in range(rows)]  # type: ignore[misc]
        self._losses = np.zeros(rows)
        self._numbers = np.zeros(rows)
        self._classes = np.zeros(rows, np.int64)
        self._sets = np.zeros((2, rows, len(labels)) if problem == MULTI else (2, 0, 0), np.bool_)
        self._answers: list[Any] = [None] * rows

    def add(self, row: int, scores: Scores) -> None:
        """Add what is predicted for a row.

        Args:
            row: Its index.
            scores: The chance of each class, or the number, float64 [outputs].
        """
        target = self._targets[row]
        self._losses[row] = loss_of(scores, target, self._problem)
        if self._problem == REGRESSION:
            self._numbers[row] = scores[0]
        elif self._problem == SINGLE:
            self._classes[row] = predicted_classes(scores, self._problem)[0]
        else:
            self._sets[0, row, list(target.classes)] = True
            self._sets[1, row, predicted_classes(scores, self._problem)] = True
        self._answers[row] = shown_answer(scores, float(self._losses[row]), self._problem, self._labels)

    def summary(self) -> dict[str, Any]:
        """Return `{metrics, answers, classes, confusions}`.

        evalLoss is that of training: rows weigh what their class weighs.
        """
        weights = np.array([target.weight for target in self._targets])
        metrics: dict[str, float | None] = {}
        found: dict[str, Any] = {"answers": self._answers}
        if self._problem == REGRESSION:
            metrics |= number_metrics(np.array([target.number for target in self._targets]), self._numbers)
        elif self._problem == SINGLE:
            expected = np.array([target.classes[0] for target in self._targets], np.int64)
            tally = Tally.of_classes(expected, self._classes, len(self._labels))
            metrics |= tally.metrics(sets=False)
            found |= {"classes": tally.table(self._labels)}
            found |= {"confusions": confusions(self._labels, expected, self._classes)}
        else:
            tally = Tally.of_sets(*self._sets)
            metrics |= tally.metrics(sets=True)
            found |= {"classes": tally.table(self._labels)}
        loss = float((self._losses * weights).sum() / weights.sum())
        return {"metrics": {"evalLoss": loss, **metrics}, **found}


def names_in_order(id2label: Mapping[Any, str]) -> list[str]:
    """Return the names of a model's classes, in order.

    Args:
        id2label: The names by their numbers, which are texts in config.json.
    """
    names = {int(number): str(label) for number, label in id2label.items()}
    return [names[number] for number in sorted(names)]


def evaluate_labels(
    model: Any,  # noqa: ANN401 - a transformers model
    store: TokenStore,
    collator: Callable[[Sequence[Any]], dict[str, Any]],
    *,
    rows: int,
    advance: Callable[[int], None],
) -> dict[str, Any]:
    """Evaluate a model.

    Args:
        model: The model.
        store: The validation rows, a `LabelledStore`.
        collator: Makes batches of rows.
        rows: Number of rows, from the first, that are evaluated.
        advance: Called with the number of rows just finished.

    Returns:
        `{metrics, answers, classes, confusions, computedIn}`.
    """
    import torch

    from tunesmith_trainer.evaluate.batches import length_bucketed_batches
    from tunesmith_trainer.models.widening import arithmetic_of, in_float32

    problem = model.config.problem_type
    results = RowResults(store, rows, problem, names_in_order(model.config.id2label))
    lengths = store.lengths[:rows].tolist()
    with torch.inference_mode():
        for batch in length_bucketed_batches(lengths, _MAX_ROWS, _MAX_TOKENS):
            inputs = collator([store[index] for index in batch])
            del inputs["labels"]
            with in_float32(model):
                found = model(**{name: value.to(model.device) for name, value in inputs.items()})
            for index, logits in zip(batch, found.logits.float().cpu().numpy(), strict=True):
                results.add(index, scores_of(logits, problem))
            advance(len(batch))
    return {**results.summary(), "computedIn": arithmetic_of(model)}
