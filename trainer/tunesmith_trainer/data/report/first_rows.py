"""Finds for each row the first one with an equal key, part by part of the keys, so that memory stays bounded.

Each part of the keys is searched in a pass of its own over all rows. In memory are the different keys of one part and a
chunk of rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]

_KEYS = 1 << 20  # different keys of a part, about


def count_parts(rows: int) -> int:
    """Return in how many parts the keys of so many rows are searched."""
    return max(1, -(-rows // _KEYS))


def in_part(keys: Keys, part: int, parts: int) -> Rows:
    """Return the positions of the keys that belong to a part, int64 [n]."""
    if parts == 1:
        return np.arange(len(keys))
    return np.flatnonzero(keys % np.uint64(parts) == np.uint64(part))


class FirstRows:
    """The first row of each key so far."""

    def __init__(self) -> None:
        self._keys: Keys = np.zeros(0, np.uint64)
        self._rows: Rows = np.zeros(0, np.int64)

    def add(self, keys: Keys, rows: Rows) -> Rows:
        """Add rows, and return the first row with the key of each, int64 [n].

        Args:
            keys: uint64 [n].
            rows: int64 [n], ascending, and above all rows so far.
        """
        different, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        earlier = self.find(different)
        new = earlier < 0
        earlier[new] = rows[first[new]]
        if new.any():
            keys = np.concatenate([self._keys, different[new]])
            order = np.argsort(keys, kind="stable")
            self._keys, self._rows = keys[order], np.concatenate([self._rows, earlier[new]])[order]
        found: Any = earlier[inverse]
        return found

    def find(self, keys: Keys) -> Rows:
        """Return the first row with each key, or -1, int64 [n]."""
        if not len(self._keys):
            return np.full(len(keys), -1, np.int64)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[places] == keys, self._rows[places], -1)


class Findings:
    """Pairs of a row and an earlier row: how many there are, and those of the first rows."""

    def __init__(self, shown: int) -> None:
        self._shown = shown
        self._first: list[tuple[int, int]] = []
        self.count = 0

    def add(self, rows: Rows, earlier: Rows) -> None:
        """Add pairs, both int64 [n], the rows ascending."""
        self.count += len(rows)
        pairs = zip(rows[: self._shown].tolist(), earlier[: self._shown].tolist(), strict=True)
        self._first = sorted([*self._first, *pairs])[: self._shown]

    @property
    def first(self) -> list[tuple[int, int]]:
        """The pairs of the first rows."""
        return self._first
