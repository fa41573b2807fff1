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

    Each block of ten million rows gives its share, so that no more are shuffled in memory at a time.

    Args:
        rows: Number of rows.
        fraction: Share of them that is kept; None keeps none.
        seed: Seed of the choice.
        strata: int32 [rows], the class of each row, if each class is to give its share; else None.
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
    for start in range(0, rows, _BLOCK):
        end = min(start + _BLOCK, rows)
        share = count * end // rows - len(held_out)
        held_out.add(start + random.permutation(end - start)[:share])
    return held_out
