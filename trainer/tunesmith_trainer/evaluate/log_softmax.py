"""Logarithms of chances, from logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def log_softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the logarithms of the chances of the last axis, float64 of the same shape."""
    wide = np.asarray(logits, np.float64)
    wide = wide - wide.max(axis=-1, keepdims=True)
    found: npt.NDArray[np.float64] = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return found
