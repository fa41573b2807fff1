"""Stores tokenised rows: `prepare` writes them, the other stages memory-map them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

Example = tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]


class TokenStore:
    """Tokenised rows, concatenated in three flat arrays.

    Attributes:
        tokens: int32 [total], all token ids.
        mask: uint8 [total], the loss mask: 1 for a target token, else 0.
        offsets: int64 [rows + 1]; row i is `tokens[offsets[i]:offsets[i + 1]]`.
    """

    def __init__(
        self, tokens: npt.NDArray[np.int32], mask: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
    ) -> None:
        self.tokens = tokens
        self.mask = mask
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Example:
        start, end = self.offsets[index], self.offsets[index + 1]
        return self.tokens[start:end], self.mask[start:end]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """int64 [rows], the number of tokens of each row."""
        return np.diff(self.offsets)

    @classmethod
    def write(cls, folder: Path, examples: Iterable[tuple[list[int], list[int]]]) -> TokenStore:
        """Write pairs of token ids and loss mask, of equal length, to a folder and open it as a store."""
        pairs = [(np.asarray(ids, np.int32), np.asarray(mask, np.uint8)) for ids, mask in examples]
        folder.mkdir(parents=True, exist_ok=True)
        offsets = np.zeros(len(pairs) + 1, np.int64)
        np.cumsum([len(ids) for ids, _ in pairs], out=offsets[1:])
        np.save(folder / "tokens.npy", np.concatenate([ids for ids, _ in pairs] or [np.zeros(0, np.int32)]))
        np.save(folder / "mask.npy", np.concatenate([mask for _, mask in pairs] or [np.zeros(0, np.uint8)]))
        np.save(folder / "offsets.npy", offsets)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> TokenStore:
        """Open the store in a folder without reading it into memory."""

        def load(name: str) -> npt.NDArray:
            return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)

        return cls(load("tokens"), load("mask"), load("offsets"))
