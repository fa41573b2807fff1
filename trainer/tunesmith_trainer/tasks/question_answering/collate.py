"""Collates windows of questions, and the loss of their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from tunesmith_trainer.data.token_store import LabelledExample
from tunesmith_trainer.evaluate.one_pass import Rows


class AnswerCollator:
    """Puts windows into tensors, padded on the right.

    Attributes:
        inputs: Returns the model's inputs for rows.
    """

    def __init__(self, inputs: Callable[[Rows], dict[str, torch.Tensor]]) -> None:
        self.inputs = inputs

    def __call__(self, examples: Sequence[LabelledExample]) -> dict[str, torch.Tensor]:
        """Return the model's inputs, and `labels`, int64 [rows, 3]: first and last token of the answer, all tokens."""
        labels = [[int(targets[0]), int(targets[1]), len(ids)] for ids, _, targets in examples]
        return {**self.inputs([ids.tolist() for ids, _, _ in examples]), "labels": torch.tensor(labels)}


def answer_loss(outputs: Any, labels: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - a transformers ModelOutput
    """Return the loss of windows, summed: of each the mean of both cross-entropies, in nats, float32 [].

    Padding takes no part in it, so that it does not depend on the rows beside.

    Args:
        outputs: With `start_logits` and `end_logits`, [rows, width].
        labels: int64 [rows, 3], as the collator gives them.
    """
    labels = labels.to(outputs.start_logits.device)
    width = outputs.start_logits.shape[1]
    is_padding = torch.arange(width, device=labels.device)[None] >= labels[:, 2:]
    losses = [
        torch.nn.functional.cross_entropy(
            logits.float().masked_fill(is_padding, float("-inf")), labels[:, place], reduction="sum"
        )
        for place, logits in enumerate((outputs.start_logits, outputs.end_logits))
    ]
    return (losses[0] + losses[1]) / 2
