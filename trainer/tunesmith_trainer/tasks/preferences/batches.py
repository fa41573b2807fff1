"""Batches of pairs: all better answers, then all worse ones, so that both are computed in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tunesmith_trainer.data.collate import Collator, OrderedDataset
from tunesmith_trainer.data.pairs import unpacked
from tunesmith_trainer.data.token_store import TokenStore

ROW = 2
"""Numbers of the reference of a pair: the log-probabilities of the better and of the worse answer."""


class PairDataset(OrderedDataset):
    """Pairs in training order, each with what the model said of it before training.

    Attributes:
        reference: float64 [rows of the store, 2]; NaN for a row whose reference is not known yet.
    """

    def __init__(self, store: TokenStore, order: npt.NDArray[Any]) -> None:
        super().__init__(store, order)
        self.reference = np.full((len(store), ROW), np.nan)

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401 - what `PairCollator` takes
        """Return ids, mask and targets of a pair, and its reference."""
        return self.of_row(int(self.order[index]))

    def of_row(self, row: int) -> Any:  # noqa: ANN401
        """Return the same of a row of the store."""
        return (*self.store[row], self.reference[row])


class PairCollator:
    """Puts pairs into tensors."""

    def __init__(self, answers: Collator) -> None:
        """Take the collator of the answers."""
        self._answers = answers

    def __call__(self, pairs: Sequence[Any]) -> dict[str, Any]:
        """Return the model's inputs for all answers, and the labels.

        `labels` is `{tokens, reference}`: the labels of the answers, int64 [2 * pairs, positions], and the pairs'
        reference, int64 [pairs, 2], the bits of float64. As numbers DeepSpeed would round them to 16 bits.
        """
        answers = [(ids, mask) for ids, mask, *_ in pairs] + [unpacked(targets) for _, _, targets, _ in pairs]
        batch: dict[str, Any] = self._answers(answers)
        reference = torch.from_numpy(np.stack([reference for *_, reference in pairs]).view(np.int64))
        return {**batch, "labels": {"tokens": batch["labels"], "reference": reference}}


def pair_lengths(store: TokenStore) -> npt.NDArray[np.int32]:
    """Return the tokens of each pair, of both answers together, int32 [rows]."""
    ends = getattr(store, "target_offsets", None)
    if ends is None:
        raise ValueError("the rows are no pairs")
    return store.lengths + np.diff(ends).astype(np.int32)
