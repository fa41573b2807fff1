"""Collates rows into batches of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from tunesmith_trainer.data.targets import IGNORE_INDEX
from tunesmith_trainer.data.token_store import Example, TokenStore


class OrderedDataset(Dataset[Example]):
    """The rows of a store in training order.

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
    """Puts rows into tensors, padded on the right to the longest row.

    There is no attention mask: in a causal model no token attends to tokens on its right, and padding is not a target.

    Attributes:
        multiple: Lengths are rounded up to a multiple of this.
        prune: Compute logits only for positions with a target in some row. With a large vocabulary, logits are much of
            the work and most of the memory, and those of a prompt are not used.
        targets: Whether the model computes the loss itself; it then gets the labels as `targets` too.
    """

    def __init__(self, multiple: int = 1, *, prune: bool = True, targets: bool = False) -> None:
        self.multiple = multiple
        self.prune = prune
        self.targets = targets

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Return the model's inputs and the labels.

        `input_ids` is int64 [rows, length]. `logits_to_keep`, if pruned, is int64 [positions], the positions whose
        logits are computed. `labels` is int64 [rows, positions], the token after each position, or `IGNORE_INDEX`. The
        first token of a row is never a target, because no token precedes it.
        """
        longest = max(len(ids) for ids, _ in examples)
        length = -(-longest // self.multiple) * self.multiple
        input_ids = np.zeros((len(examples), length), np.int64)
        labels = np.full((len(examples), length), IGNORE_INDEX, np.int64)
        for row, (ids, mask) in enumerate(examples):
            input_ids[row, : len(ids)] = ids
            labels[row, : len(ids) - 1] = np.where(mask[1:], ids[1:], IGNORE_INDEX)
        batch = {"input_ids": torch.from_numpy(input_ids), "labels": torch.from_numpy(labels)}
        if self.prune:
            positions = np.flatnonzero((labels != IGNORE_INDEX).any(axis=0))
            kept = torch.from_numpy(positions if len(positions) else np.zeros(1, np.int64))
            batch |= {"labels": batch["labels"][:, kept], "logits_to_keep": kept}
        return {**batch, "targets": batch["labels"]} if self.targets else batch
