"""Tensors in a safetensors file, which stay in the file until they are needed.

The file is kept open and read, not mapped: if somebody truncates a mapped file, the process dies. numpy has no bf16,
so the library that writes the format cannot read it without torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_serving.engines.text_generation.adapters.errors import AdapterError

Matrix = npt.NDArray[np.float32]

_STORED: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_LENGTH = 8
_MAX_HEADER = 100 << 20
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies in its file.

    Attributes:
        dtype: Its type as safetensors names it: F32, F16 or BF16.
        shape: Its shape.
        start: Its first byte.
        size: Its length in bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


class TensorFile:
    """An open safetensors file.

    Attributes:
        tensors: What it holds, by name.
    """

    def __init__(self, path: Path) -> None:
        """Open a file and read its header.

        Raises:
            AdapterError: It cannot be read, or is not a safetensors file.
        """
        self._path = path
        try:
            # Closed when this object goes: rows of a batch may need it longer than the list of adapters does.
            self._file = path.open("rb", buffering=0)
            self._state = _state(self._file.fileno())
            header, first = self._header()
            self.tensors = {
                name: _stored(name, entry, first, self._state[0])
                for name, entry in header.items()
                if name != "__metadata__"
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AdapterError(f"{path} is not a safetensors file: {error}; export the adapter again") from None

    def sha256(self) -> str:
        """Return the digest of the whole file, in hexadecimal.

        Raises:
            AdapterError: It cannot be read.
        """
        digest, position = hashlib.sha256(), 0
        while block := self._read(position, min(_BLOCK, self._state[0] - position)):
            digest.update(block)
            position += len(block)
        return digest.hexdigest()

    def read(self, name: str) -> Matrix:
        """Return a tensor, widened to fp32.

        Raises:
            AdapterError: The file has changed since it was opened, or cannot be read.
        """
        tensor = self.tensors[name]
        values = np.frombuffer(self._read(tensor.start, tensor.size), _STORED[tensor.dtype]).reshape(tensor.shape)
        if _state(self._file.fileno()) != self._state:
            raise AdapterError(
                f"{self._path} has changed since it was loaded; an artifact is never changed: publish another one"
            )
        if tensor.dtype == "BF16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32, copy=False)

    def _read(self, start: int, size: int) -> bytes:
        """Return bytes of the file."""
        parts = []
        try:
            while size:
                part = os.pread(self._file.fileno(), size, start)
                if not part:
                    raise OSError("the file has become shorter")
                parts.append(part)
                start, size = start + len(part), size - len(part)
        except OSError as error:
            raise AdapterError(f"{self._path} cannot be read: {error}; copy or publish the adapter again") from None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _header(self) -> tuple[dict[str, Any], int]:
        """Return the header, and where the tensors begin."""
        size = self._state[0]
        length = int.from_bytes(os.pread(self._file.fileno(), _LENGTH, 0), "little")
        if size < _LENGTH or not 0 < length <= min(_MAX_HEADER, size - _LENGTH):
            raise ValueError("its header does not fit in the file")
        header = json.loads(os.pread(self._file.fileno(), length, _LENGTH))
        if not isinstance(header, dict):
            raise ValueError("its header is not an object")
        return header, _LENGTH + length


def _state(descriptor: int) -> tuple[int, int]:
    """Return the size of an open file and when it was written."""
    found = os.fstat(descriptor)
    return found.st_size, found.st_mtime_ns


def _stored(name: str, entry: Any, first: int, size: int) -> StoredTensor:  # noqa: ANN401 - JSON
    dtype, shape = str(entry["dtype"]), tuple(int(length) for length in entry["shape"])
    begin, end = (int(offset) for offset in entry["data_offsets"])
    if dtype not in _STORED:
        raise ValueError(f"{name} is of the type {dtype}; F32, F16 and BF16 are read")
    if not 0 <= begin <= end <= size - first or min(shape, default=0) < 0:
        raise ValueError(f"{name} lies outside the file")
    wanted = int(np.prod(shape, dtype=np.int64)) * _STORED[dtype].itemsize
    if end - begin != wanted:
        raise ValueError(f"{name} has {end - begin} bytes, and its shape needs {wanted}")
    return StoredTensor(dtype, shape, first + begin, end - begin)
