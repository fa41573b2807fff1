"""Stores tokenised rows: `prepare` writes them as a stream, the other stages memory-map them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

Example = tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]

_CHUNK = 1 << 20  # numbers that are written or read at a time
_TYPES = {"tokens": np.int32, "mask": np.uint8, "offsets": np.int64}
_TARGET_TYPES = {"targets": np.float64, "target_offsets": np.int64}


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
    def lengths(self) -> npt.NDArray[Any]:
        """int32 [rows], the number of tokens of each row."""
        lengths = np.empty(len(self), np.int32)
        for start in range(0, len(self), _CHUNK):
            lengths[start : start + _CHUNK] = np.diff(self.offsets[start : start + _CHUNK + 1])
        return lengths

    @classmethod
    def write(cls, folder: Path, examples: Iterable[tuple[Sequence[int], Sequence[int]]]) -> TokenStore:
        """Write pairs of token ids and loss mask, of equal length, to a folder and open it as a store."""
        with TokenStoreWriter(folder) as writer:
            for ids, mask in examples:
                writer.add(ids, mask)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> TokenStore:
        """Open the store in a folder without reading it into memory; a `LabelledStore` if its rows have targets."""
        store = cls(*(_mapped(folder, name) for name in _TYPES))
        if not (folder / "targets.npy").exists():
            return store
        return LabelledStore(store, *(_mapped(folder, name) for name in _TARGET_TYPES))


LabelledExample = tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8], npt.NDArray[np.float64]]


class LabelledStore(TokenStore):
    """Tokenised rows with targets of their own, for tasks that do not learn the next token.

    Attributes:
        targets: float64 [n], the targets of all rows: labels, positions or token ids, as the task says.
        target_offsets: int64 [rows + 1]; those of row i are `targets[target_offsets[i]:target_offsets[i + 1]]`.
    """

    def __init__(
        self, store: TokenStore, targets: npt.NDArray[np.float64], target_offsets: npt.NDArray[np.int64]
    ) -> None:
        super().__init__(store.tokens, store.mask, store.offsets)
        self.targets = targets
        self.target_offsets = target_offsets

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401 - a LabelledExample, which only its task's collator sees
        """Return token ids, mask and targets of a row."""
        ids, mask = super().__getitem__(index)
        start, end = self.target_offsets[index], self.target_offsets[index + 1]
        return ids, mask, self.targets[start:end]


def _mapped(folder: Path, name: str) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    return found


class TokenStoreWriter:
    """Writes a store row by row. Use it as a context manager: the store is complete when that is left.

    Attributes:
        folder: The store's folder.
        rows: Number of rows so far.
        tokens: Number of tokens so far.
        learned: Number of target tokens so far.
        longest: Tokens of the longest row so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = self.tokens = self.learned = self.longest = 0
        self._targets = self._end = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._files = {name: ArrayFile(folder / f"{name}.npy", type_) for name, type_ in _TYPES.items()}
        self._files["offsets"].extend(np.zeros(1, np.int64))

    def add(
        self,
        ids: Sequence[int] | npt.NDArray[np.int32],
        mask: Sequence[int] | npt.NDArray[np.uint8],
        own: Sequence[float] = (),
    ) -> None:
        """Add a row.

        Args:
            ids: Its token ids.
            mask: Its loss mask, of equal length.
            own: Its targets, where they are not the next tokens. All rows have some, or none has.
        """
        if len(own):
            self._add_targets(own)
        self.rows += 1
        self._end += len(ids)
        self.count(ids, mask)
        self._files["tokens"].extend(np.asarray(ids, np.int32))
        self._files["mask"].extend(np.asarray(mask, np.uint8))
        self._files["offsets"].extend(np.array([self._end]))

    def count(self, ids: Sequence[int] | npt.NDArray[np.int32], mask: Sequence[int] | npt.NDArray[np.uint8]) -> None:
        """Count a sequence of tokens that belongs to the newest row: its own, or one in its targets."""
        self.tokens += len(ids)
        self.learned += int(np.count_nonzero(np.asarray(mask, np.uint8)))
        self.longest = max(self.longest, len(ids))

    def _add_targets(self, targets: Sequence[float]) -> None:
        if "targets" not in self._files:
            self._files |= {
                name: ArrayFile(self.folder / f"{name}.npy", type_) for name, type_ in _TARGET_TYPES.items()
            }
            self._files["target_offsets"].extend(np.zeros(1, np.int64))
        self._targets += len(targets)
        self._files["targets"].extend(np.asarray(targets, np.float64))
        self._files["target_offsets"].extend(np.array([self._targets]))

    def __enter__(self) -> TokenStoreWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for file in self._files.values():
            file.close()


class ArrayFile:
    """A file in NumPy's format with an array of one dimension, whose length is known when it is closed."""

    def __init__(self, path: Path, type_: type[Any]) -> None:
        self._type: np.dtype[Any] = np.dtype(type_)
        self._length = 0
        self._file = path.open("wb", buffering=_CHUNK)
        self._file.write(self._header())

    def _header(self) -> bytes:
        # NumPy leaves room in the header for any length, so that it can be written anew in place.
        header = io.BytesIO()
        shape = {"descr": np.lib.format.dtype_to_descr(self._type), "fortran_order": False, "shape": (self._length,)}
        np.lib.format.write_array_header_1_0(header, shape)
        return header.getvalue()

    def extend(self, numbers: npt.NDArray[Any]) -> None:
        """Append numbers."""
        self._file.write(np.ascontiguousarray(numbers, self._type).data)
        self._length += len(numbers)

    def close(self) -> None:
        """Write how long the array is, and close the file."""
        with self._file:
            self._file.seek(0)
            self._file.write(self._header())


def read_array(path: Path) -> Iterator[npt.NDArray[Any]]:
    """Yield an array of one dimension from a file in NumPy's format, at most 2**20 numbers at a time.

    Unlike a memory map, it leaves no pages of the file in the process.
    """
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, type_ = np.lib.format.read_array_header_1_0(file)
        for start in range(0, shape[0], _CHUNK):
            yield np.fromfile(file, type_, min(_CHUNK, shape[0] - start))


def read_rows(folder: Path) -> Iterator[npt.NDArray[np.int32]]:
    """Yield the tokens of each row of a store, int32 [n]. Unlike `TokenStore`, it leaves no pages in the process."""
    with (folder / "tokens.npy").open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        start, skipped = 0, 1  # the first offset is the beginning of the first row
        for offsets in read_array(folder / "offsets.npy"):
            for end in offsets[skipped:].tolist():
                yield np.fromfile(file, np.int32, end - start)
                start = end
            skipped = 0
