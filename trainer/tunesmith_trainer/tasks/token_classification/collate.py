"""Collates rows whose tokens have labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from tunesmith_trainer.data.targets import IGNORE_INDEX
from tunesmith_trainer.data.token_store import LabelledExample
from tunesmith_trainer.evaluate.one_pass import Rows, padded_rows


class TagCollator:
    """Puts rows into tensors, padded on the right.

    Attributes:
        inputs: Returns the model's inputs for rows.
    """

    def __init__(self, inputs: Callable[[Rows], dict[str, torch.Tensor]]) -> None:
        self.inputs = inputs

    def __call__(self, examples: Sequence[LabelledExample]) -> dict[str, torch.Tensor]:
        """Return the model's inputs, and `labels`, int64 [rows, width], `IGNORE_INDEX` for tokens without one."""
        found = self.inputs([ids.tolist() for ids, _, _ in examples])
        width = found["input_ids"].shape[1]
        targets = [targets.astype("int64").tolist() for _, _, targets in examples]
        return {**found, "labels": padded_rows(targets, IGNORE_INDEX, width)}
