"""Which rows of the training sources are kept for validation, in one bit a row."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


class HeldOutRows:
    """Row numbers that are kept for validation.

    Attributes:
        rows: Number of all rows.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._bits = bytearray(-(-rows // 8))
        self._count = 0

    @classmethod
    def of(cls, numbers: Iterable[int], rows: int) -> HeldOutRows:
        """Return some of the row numbers from 0 to `rows`; each is given once."""
        made = cls(rows)
        made.add(np.fromiter(numbers, np.int64))
        return made

    def add(self, numbers: npt.NDArray[np.int64]) -> None:
        """Add row numbers, int64 [n], that are not in it yet."""
        bits = np.frombuffer(self._bits, np.uint8)
        np.bitwise_or.at(bits, numbers >> 3, (1 << (numbers & 7)).astype(np.uint8))
        self._count += len(numbers)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, number: int) -> bool:
        return bool(self._bits[number >> 3] >> (number & 7) & 1)

    def mask(self, start: int, end: int) -> npt.NDArray[np.bool_]:
        """Return whether each row from `start` to `end` is kept for validation, bool [end - start]."""
        first = start >> 3
        bits = np.frombuffer(self._bits, np.uint8)[first : -(-end // 8)]
        return np.unpackbits(bits, bitorder="little").astype(bool)[start - 8 * first :][: end - start]
