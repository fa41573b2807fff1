"""Rows as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from tunesmith_trainer.prepared import Example, TokenStore

IGNORED = -100
"""Label of a token that is not learned."""


class OrderedRows(Dataset[Example]):
    """The rows of a store in the order of the run.

    Attributes:
        store: The rows.
        order: int64 [n], row numbers.
    """

    def __init__(self, store: TokenStore, order: npt.NDArray[np.int64]) -> None:
        self.store = store
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Example:
        return self.store[int(self.order[index])]


class Collator:
    """Puts rows into tensors, padded on the right to the longest of them.

    There is no attention mask: in a causal model no token sees what stands on its right, and padding is not learned.

    Attributes:
        multiple: Lengths are rounded up to a multiple of this.
    """

    def __init__(self, multiple: int = 1) -> None:
        self.multiple = multiple

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Return `{input_ids: int64 [rows, length], labels: int64 [rows, length]}`."""
        longest = max(len(ids) for ids, _ in examples)
        length = -(-longest // self.multiple) * self.multiple
        input_ids = np.zeros((len(examples), length), np.int64)
        labels = np.full((len(examples), length), IGNORED, np.int64)
        for row, (ids, mask) in enumerate(examples):
            input_ids[row, : len(ids)] = ids
            labels[row, : len(ids)] = np.where(mask, ids, IGNORED)
        return {"input_ids": torch.from_numpy(input_ids), "labels": torch.from_numpy(labels)}


def learned_tokens(labels: torch.Tensor) -> torch.Tensor:
    """Return the number of learned tokens, int64 []. The first token of a row has none before it to learn from."""
    return labels[:, 1:].ne(IGNORED).sum()


def loss_sum(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the summed cross-entropy of the learned tokens in fp32, nats.

    Args:
        logits: [rows, length, vocabulary].
        labels: int64 [rows, length], `IGNORED` where nothing is learned.
    """
    targets = labels[:, 1:].to(logits.device)
    learned = targets.ne(IGNORED)
    # Picking the learned positions out copies their logits, forward and backward: worth it where they are few.
    if int(learned.sum()) * 2 < labels.numel():
        return torch.nn.functional.cross_entropy(logits[:, :-1][learned].float(), targets[learned], reduction="sum")
    targets = torch.nn.functional.pad(targets, (0, 1), value=IGNORED)
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), reduction="sum", ignore_index=IGNORED
    )
