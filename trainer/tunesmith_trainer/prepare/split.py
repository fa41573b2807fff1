"""Splits rows off for validation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.data.held_out import HeldOutRows

_BLOCK = 10_000_000  # rows that are shuffled together, 8 bytes each


def held_out_rows(
    rows: int, fraction: float | None, seed: int, strata: npt.NDArray[np.int32] | None = None
) -> HeldOutRows:
    """Return the rows that are kept for validation: at least one, and not all.

    Each block of ten million rows gives its share, so that no more are shuffled in memory at a time. With classes, each
    gives its share, rounded so that the total is the same, and at least one of its rows stays in training.

    Args:
        rows: Number of rows.
        fraction: Share of them that is kept; None keeps none.
        seed: Seed of the choice.
        strata: int32 [rows], the class of each row from 0 on, if each class is to give its share; else None.

    Raises:
        StageError: INVALID_DATASET: no row can be spared.
    """
    held_out = HeldOutRows(rows)
    if fraction is None:
        return held_out
    if rows < 2:
        raise StageError(
            Reason.INVALID_DATASET,
            "the data set has a single row, which cannot be split into training and validation",
            "Add rows, or give spec.dataset.validation.sources",
        )
    count = min(max(1, round(rows * fraction)), rows - 1)
    random = np.random.default_rng(seed)
    shares = None if strata is None else _Shares(strata, count, random)
    for start in range(0, rows, _BLOCK):
        end = min(start + _BLOCK, rows)
        if shares is None:
            share = count * end // rows - len(held_out)
            held_out.add(start + random.permutation(end - start)[:share])
        else:
            held_out.add(start + shares.take(shares.strata[start:end], random))
    return held_out


class _Shares:
    """How many rows of each class are kept for validation, and which of a block."""

    def __init__(self, strata: npt.NDArray[np.int32], count: int, random: np.random.Generator) -> None:
        """Divide a number of rows between the classes, by the largest remainders.

        Args:
            strata: int32 [rows], the class of each row.
            count: Number of rows that are kept of all.
            random: Decides between equal remainders.

        Raises:
            StageError: INVALID_DATASET: each class has a single row.
        """
        self.strata = strata
        self._rows = np.bincount(strata).astype(np.int64)
        exact = self._rows * (count / len(strata))
        most = np.maximum(self._rows - 1, 0)
        self._shares = np.minimum(np.floor(exact).astype(np.int64), most)
        mixed = random.permutation(len(exact))
        order = mixed[np.argsort(self._shares[mixed] - exact[mixed], kind="stable")]
        spare = order[self._shares[order] < most[order]]
        self._shares[spare[: count - int(self._shares.sum())]] += 1
        if not self._shares.any():
            raise StageError(
                Reason.INVALID_DATASET,
                "each label has a single row, so that none can be kept for validation",
                "Add rows of each label, or give spec.dataset.validation.sources",
            )
        self._seen = np.zeros_like(self._rows)
        self._taken = np.zeros_like(self._rows)

    def take(self, block: npt.NDArray[np.int32], random: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return the rows of the next block that are kept, int64 [n], counted from its first.

        Args:
            block: int32 [rows], their classes.
            random: Chooses the rows of each class.
        """
        rows = np.bincount(block, minlength=len(self._rows))
        self._seen += rows
        wanted = self._shares * self._seen // np.maximum(self._rows, 1) - self._taken
        self._taken += wanted
        mixed = random.permutation(len(block))
        sorted_ = mixed[np.argsort(block[mixed], kind="stable")]
        # Of each class the first rows in the mixed order, which now stand together.
        places = np.arange(len(block)) - np.repeat(np.cumsum(rows) - rows, rows)
        chosen: npt.NDArray[np.int64] = sorted_[places < np.repeat(wanted, rows)]
        return chosen
