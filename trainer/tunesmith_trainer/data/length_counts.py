"""How many rows have each length: exact, in memory that grows with the number of different lengths only."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt


class LengthCounts(Counter[int]):
    """Number of rows by length."""

    def add(self, length: int) -> None:
        """Count a row."""
        self[length] += 1

    @property
    def total_length(self) -> int:
        """The sum of the lengths of all rows."""
        return sum(length * rows for length, rows in self.items())

    def arrays(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the lengths in ascending order, int64 [n], and the number of rows of each, int64 [n]."""
        lengths = np.array(sorted(self), np.int64)
        return lengths, np.array([self[length] for length in lengths.tolist()], np.int64)

    def quantile(self, share: float) -> float:
        """Return the length that this share of the rows does not exceed, interpolated as NumPy does by default."""
        lengths, counts = self.arrays()
        ends = np.cumsum(counts)
        position = (int(ends[-1]) - 1) * share
        low = int(position)
        below, above = (float(lengths[np.searchsorted(ends, row, side="right")]) for row in (low, np.ceil(position)))
        part = position - low
        return below + (above - below) * part if part < 0.5 else above - (above - below) * (1 - part)
