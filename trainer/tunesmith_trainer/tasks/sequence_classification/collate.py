"""Puts rows with labels into tensors, and computes their loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from tunesmith_trainer.data.token_store import LabelledExample
from tunesmith_trainer.evaluate.one_pass import Rows
from tunesmith_trainer.tasks.sequence_classification.problem import MULTI, SINGLE


class LabelCollator:
    """Puts rows into tensors, padded on the right.

    Attributes:
        inputs: Returns the model's inputs for rows.
        problem: The kind of the problem, as transformers names it.
        classes: Number of classes.
    """

    def __init__(self, inputs: Callable[[Rows], dict[str, torch.Tensor]], problem: str, classes: int) -> None:
        self.inputs = inputs
        self.problem = problem
        self.classes = classes

    def __call__(self, examples: Sequence[LabelledExample]) -> dict[str, torch.Tensor]:
        """Return the model's inputs and `labels`, int64 [rows, n, 2].

        Each row has n targets with their weights: a class; or for each class 0 or 1; or a number. Numbers other than
        classes, and weights, are the bits of float64, since DeepSpeed casts floating-point inputs to bf16.
        """
        found = self.inputs([ids.tolist() for ids, _, _ in examples])
        if "token_type_ids" in found:
            width = found["input_ids"].shape[1]
            types = [second_text(targets, len(ids), width) for ids, _, targets in examples]
            found["token_type_ids"] = torch.from_numpy(np.stack(types))
        labels = np.stack([self._labels(targets) for _, _, targets in examples])
        return {**found, "labels": torch.from_numpy(labels)}

    def _labels(self, targets: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Return the targets of a row with their weights, int64 [n, 2]."""
        if self.problem == SINGLE:
            return np.array([[int(targets[1]), _bits(targets[2:3])[0]]], np.int64)
        found = np.ones((self.classes if self.problem == MULTI else 1, 2))
        if self.problem == MULTI:
            found[:, 0] = 0
            found[targets[1:].astype(np.int64), 0] = 1
        else:
            found[0, 0] = targets[1]
        return _bits(found)


def second_text(targets: npt.NDArray[np.float64], length: int, width: int) -> npt.NDArray[np.int64]:
    """Return the type of each token, int64 [width]: 1 for the second text, else 0.

    Args:
        targets: The row's targets, which begin with the index of the first token of type 1.
        length: Tokens of the row.
        width: Tokens with padding.
    """
    places = np.arange(width)
    return ((places >= targets[0]) & (places < length)).astype(np.int64)


def _bits(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.ascontiguousarray(numbers, np.float64).view(np.int64)


def _numbers(bits: torch.Tensor) -> torch.Tensor:
    return bits.contiguous().view(torch.float64)


def label_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the weighted loss, summed over the targets, float32 []: what transformers takes for the problem.

    That is the cross-entropy of classes, the binary cross-entropy of several labels, or the squared error of a number.
    Divided by `label_weight`, it is what torch's loss functions return as the mean.

    Args:
        logits: [rows, classes], or [rows, 1] of a regression.
        labels: int64 [rows, n, 2], see `LabelCollator`.
    """
    labels = labels.to(logits.device)
    logits = logits.float()
    weights = _numbers(labels[..., 1]).float()
    if labels.shape[1] == 1 and logits.shape[1] > 1:
        losses = functional.cross_entropy(logits, labels[:, 0, 0], reduction="none")[:, None]
    elif logits.shape[1] > 1:
        targets = _numbers(labels[..., 0]).float()
        losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    else:
        losses = functional.mse_loss(logits, _numbers(labels[..., 0]).float(), reduction="none")
    return (losses * weights).sum()


def label_weight(labels: torch.Tensor) -> Any:  # noqa: ANN401
    """Return the sum of the weights of a batch's targets, float64 []."""
    return _numbers(labels[..., 1]).sum()
