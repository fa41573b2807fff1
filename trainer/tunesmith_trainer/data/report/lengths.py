"""A histogram of row lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_BINS = 12


def describe_lengths(lengths: npt.NDArray[np.int64], unit: str, limit: int | None) -> dict[str, Any]:
    """Return the distribution of row lengths.

    Args:
        lengths: int64 [rows].
        unit: `tokens` or `characters`.
        limit: The longest row that is used whole; None if it is not known in this unit.
    """
    if not len(lengths):
        return {"unit": unit, "limit": limit, "histogram": []}
    edges = _edges(int(lengths.min()), int(lengths.max()))
    counts, _ = np.histogram(lengths, edges)
    bins = [
        {"from": int(low), "to": int(high) - 1, "rows": int(count)}
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    return {
        "unit": unit,
        "limit": limit,
        "shortest": int(lengths.min()),
        "median": int(np.median(lengths)),
        "percentile95": int(np.percentile(lengths, 95)),
        "longest": int(lengths.max()),
        "total": int(lengths.sum()),
        "histogram": bins,
    }


def _edges(shortest: int, longest: int) -> list[int]:
    """Return bin edges of equal, round width, from the shortest row to above the longest."""
    width = max(1, -(-(longest - shortest + 1) // _BINS))
    magnitude = 10 ** max(0, len(str(width)) - 1)
    width = next(step * magnitude for step in (1, 2, 5, 10) if step * magnitude >= width)
    return list(range(shortest - shortest % width, longest + 1 + width, width))
