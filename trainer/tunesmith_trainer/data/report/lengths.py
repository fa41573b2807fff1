"""A histogram of row lengths."""

from __future__ import annotations

from typing import Any

import numpy as np

from tunesmith_trainer.data.length_counts import LengthCounts

_BINS = 12


def describe_lengths(counts: LengthCounts, unit: str, limit: int | None) -> dict[str, Any]:
    """Return the distribution of row lengths.

    Args:
        counts: The number of rows by length.
        unit: `tokens` or `characters`.
        limit: The longest row that is used whole; None if it is not known in this unit.
    """
    if not counts:
        return {"unit": unit, "limit": limit, "histogram": []}
    lengths, rows = counts.arrays()
    shortest, longest = int(lengths[0]), int(lengths[-1])
    edges = _edges(shortest, longest)
    found, _ = np.histogram(lengths, edges, weights=rows)
    bins = [
        {"from": int(low), "to": int(high) - 1, "rows": int(count)}
        for low, high, count in zip(edges[:-1], edges[1:], found, strict=True)
    ]
    return {
        "unit": unit,
        "limit": limit,
        "shortest": shortest,
        "median": int(counts.quantile(0.5)),
        "percentile95": int(counts.quantile(0.95)),
        "longest": longest,
        "total": counts.total_length,
        "histogram": bins,
    }


def _edges(shortest: int, longest: int) -> list[int]:
    """Return bin edges of equal, round width, from the shortest row to above the longest."""
    width = max(1, -(-(longest - shortest + 1) // _BINS))
    magnitude = 10 ** max(0, len(str(width)) - 1)
    width = next(step * magnitude for step in (1, 2, 5, 10) if step * magnitude >= width)
    return list(range(shortest - shortest % width, longest + 1 + width, width))
