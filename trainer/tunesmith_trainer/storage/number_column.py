"""A column of whole numbers that may be longer than memory: what does not fit is in a temporary file without a name."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

_BUFFER = 1 << 16  # numbers that are kept before they are written
CHUNK = 1 << 20
"""Numbers that are read at a time."""


class NumberColumn:
    """Numbers in the order in which they were appended.

    The file has no name, so nothing is left of it when the process ends, however it ends.
    """

    def __init__(self, kind: Literal["I", "Q"], folder: Path | None = None) -> None:
        """Create an empty column.

        Args:
            kind: The numbers' type, as `array` names it: I for 4 bytes, Q for 8; both unsigned.
            folder: Where the file is made when it is needed; the folder for temporary files by default.
        """
        self._buffer = array(kind)
        self._type: np.dtype[Any] = np.dtype(f"u{self._buffer.itemsize}")
        self._folder = folder
        self._file: BinaryIO | None = None
        self._written = 0

    def __len__(self) -> int:
        return self._written + len(self._buffer)

    def append(self, number: int) -> None:
        """Add a number at the end."""
        self._buffer.append(number)
        if len(self._buffer) == _BUFFER:
            self._write()

    def __getitem__(self, index: int) -> int:
        if index >= self._written:
            return self._buffer[index - self._written]
        return int(self._read(index, 1)[0])

    def chunks(self) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Yield the numbers as `(index of the first, array)`, at most `CHUNK` at a time."""
        for start in range(0, self._written, CHUNK):
            yield start, self._read(start, min(CHUNK, self._written - start))
        if self._buffer:
            yield self._written, np.array(self._buffer, self._type)

    def _write(self) -> None:
        if self._file is None:
            if self._folder is not None:
                self._folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - lives as long as this
        data = memoryview(self._buffer).cast("B")
        while data:
            data = data[self._file.write(data) :]
        self._written += len(self._buffer)
        self._buffer = array(self._buffer.typecode)

    def _read(self, start: int, count: int) -> npt.NDArray[Any]:
        if self._file is None:
            raise IndexError(start)
        size = self._type.itemsize
        data = os.pread(self._file.fileno(), count * size, start * size)
        return np.frombuffer(data, self._type)
