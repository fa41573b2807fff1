"""Batches of rows as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from tunesmith_trainer.data.token_store import Example, TokenStore

IGNORE_INDEX = -100
"""Label of a token that takes no part in the loss."""


class OrderedDataset(Dataset[Example]):
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
        prune: Whether the model is asked for no other logits than those that something is learned from. Over a large
            vocabulary they are much of the work and most of the memory, and most of a prompt's are of no use.
    """

    def __init__(self, multiple: int = 1, *, prune: bool = True) -> None:
        self.multiple = multiple
        self.prune = prune

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Return the model's inputs and what is learned.

        `input_ids` is int64 [rows, length]; `logits_to_keep`, where pruned, the int64 [positions] whose logits are
        wanted; `labels` int64 [rows, positions], the token after each of them, `IGNORE_INDEX` where it is no target. A
        row's first token is none, as no token is before it.
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
            learned = np.flatnonzero((labels != IGNORE_INDEX).any(axis=0))
            kept = torch.from_numpy(learned if len(learned) else np.zeros(1, np.int64))
            batch |= {"labels": batch["labels"][:, kept], "logits_to_keep": kept}
        return batch
