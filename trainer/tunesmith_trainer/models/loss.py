"""The masked cross-entropy that training, evaluation and parity share."""

from __future__ import annotations

import torch

from tunesmith_trainer.data.targets import IGNORE_INDEX


def target_count(labels: torch.Tensor) -> torch.Tensor:
    """Return the number of target tokens of a batch's labels, int64 []."""
    return labels.ne(IGNORE_INDEX).sum()


def loss_sum(logits: torch.Tensor, labels: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return the summed cross-entropy of the target tokens, in nats.

    Args:
        logits: [..., positions, vocabulary].
        labels: int64 [..., positions], the token after each position, `IGNORE_INDEX` where it is no target.
        dtype: Number format to compute in.
    """
    labels = labels.to(logits.device)
    is_target = labels.ne(IGNORE_INDEX)
    # Picking the targets' positions out copies their logits, forward and backward: worth it where they are few.
    if int(is_target.sum()) * 2 < labels.numel():
        return torch.nn.functional.cross_entropy(logits[is_target].to(dtype), labels[is_target], reduction="sum")
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, -2).to(dtype), labels.flatten(), reduction="sum", ignore_index=IGNORE_INDEX
    )


def row_counts(labels: torch.Tensor) -> torch.Tensor:
    """Return the number of target tokens of each row, int64 [rows]; labels are int64 [rows, positions]."""
    return labels.ne(IGNORE_INDEX).sum(-1)


def row_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the summed cross-entropy of the target tokens of each row, in nats, float32 [rows].

    Args:
        logits: [rows, positions, vocabulary].
        labels: int64 [rows, positions], as in `loss_sum`.
    """
    labels = labels.to(logits.device)
    is_target = labels.ne(IGNORE_INDEX)
    losses = torch.nn.functional.cross_entropy(logits[is_target].float(), labels[is_target], reduction="none")
    return sums_of_rows(losses, is_target)


def sums_of_rows(losses: torch.Tensor, is_target: torch.Tensor) -> torch.Tensor:
    """Return the sum of each row's losses, float [rows]. Always in the same order, also on a GPU.

    Args:
        losses: float [targets], the losses of all targets, row by row.
        is_target: bool [rows, positions].
    """
    return (
        torch.zeros(is_target.shape, dtype=losses.dtype, device=losses.device).masked_scatter(is_target, losses).sum(1)
    )
