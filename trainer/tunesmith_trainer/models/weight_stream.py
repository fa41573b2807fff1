"""Reads the tensors of safetensors files piece by piece, without mapping the files into memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PIECE = 16 << 20  # bytes of a tensor that are in memory

# The names of number formats in safetensors files, and in torch.
_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        path: The file.
        type: Its number format, as torch names it, or as the file does if torch has none.
        shape: Its shape.
        start: Where its bytes begin in the file.
        size: Number of bytes.
    """

    path: Path
    type: str
    shape: tuple[int, ...]
    start: int
    size: int

    def pieces(self) -> Iterator[Any]:
        """Yield its numbers as flat tensors, in order. Each is overwritten by the next one."""
        import torch

        type_ = getattr(torch, self.type)
        buffer = bytearray(min(_PIECE, self.size))
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.start)
            left = self.size
            while left:
                wanted = memoryview(buffer)[: min(left, len(buffer))]
                filled = 0
                while filled < len(wanted):
                    got = file.readinto(wanted[filled:])
                    if not got:
                        raise EOFError(f"{self.path.name} ends too early")
                    filled += got
                left -= filled
                yield torch.frombuffer(wanted, dtype=type_)


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a model in the transformers layout, by their names in its files."""
    index = folder / "model.safetensors.index.json"
    files = ["model.safetensors"]
    if index.exists():
        files = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    return {name: tensor for file in files for name, tensor in _read_header(folder / file).items()}


def _read_header(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a file: eight bytes with the length of the header, the header as JSON, then the numbers."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return {
        name: StoredTensor(
            path,
            _TYPES.get(entry["dtype"], entry["dtype"]),
            tuple(entry["shape"]),
            8 + length + entry["data_offsets"][0],
            entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }
