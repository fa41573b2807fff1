"""Splits rows off for validation."""

from __future__ import annotations

import numpy as np

from tunesmith_api.failures import Reason, StageError


def held_out_rows(rows: int, fraction: float | None, seed: int) -> frozenset[int]:
    """Return the indices of the rows that are kept for validation: at least one, and not all."""
    if fraction is None:
        return frozenset()
    if rows < 2:
        raise StageError(
            Reason.INVALID_DATASET,
            "the data set has a single row, which cannot be split into training and validation",
            "Add rows, or give spec.dataset.validation.sources",
        )
    count = min(max(1, round(rows * fraction)), rows - 1)
    return frozenset(np.random.default_rng(seed).permutation(rows)[:count].tolist())
