"""Writes safetensors files tensor by tensor: only one tensor is in memory at a time.

The files are byte for byte those of the safetensors library, which takes all tensors of a file at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import torch
from huggingface_hub import split_torch_state_dict_into_shards

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
# The library sorts tensors by this order of their number formats, the last one first.
_ORDER = ("BOOL", "U8", "I8", "I16", "F16", "BF16", "I32", "F32", "F64", "I64")
_ALIGNMENT = 8

Layout = Mapping[str, torch.Tensor]
"""Tensors of the meta device, which have a shape and a number format only, by name."""


def empty(shape: Iterable[int], dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor for a layout."""
    return torch.empty(tuple(shape), dtype=dtype, device="meta")


class SafetensorsWriter:
    """A safetensors file that is being written. Used as a context manager.

    Tensors may come in any order. All of the layout must have come before the context ends.
    """

    def __init__(self, path: Path, layout: Layout, metadata: Mapping[str, str]) -> None:
        """Prepare the file's header.

        Args:
            path: The file, which is created or replaced.
            layout: What it will hold.
            metadata: Its metadata.
        """
        self._path = path
        self._layout = dict(layout)
        self._header, self._offsets = _header(self._layout, metadata)
        self._left = set(self._layout)
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        self._file = self._path.open("wb")
        self._file.write(self._header)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if kind is None and self._left:
            raise ValueError(f"{self._path.name}: {len(self._left)} tensors are missing, such as {min(self._left)}")

    def write(self, name: str, tensor: torch.Tensor) -> None:
        """Write a tensor.

        Raises:
            ValueError: It is not of the shape or the number format that the layout says.
        """
        expected = self._layout[name]
        if (tensor.shape, tensor.dtype) != (expected.shape, expected.dtype):
            raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}, not {expected.dtype} {expected.shape}")
        if self._file is None:
            raise ValueError(f"{self._path.name} is not open")
        self._file.seek(len(self._header) + self._offsets[name])
        flat = tensor.detach().contiguous().reshape(-1).cpu()
        self._file.write(memoryview(flat.view(torch.uint8).numpy()))
        self._left.discard(name)


def write_model(folder: Path, layout: Layout, tensors: Iterable[tuple[str, torch.Tensor]], largest: int | str) -> None:
    """Write a model's weights in the transformers layout, with an index if there are several files.

    Args:
        folder: Where the files go; it exists.
        layout: All tensors of the model.
        tensors: Their values, in any order.
        largest: Size of the largest file, in bytes or such as `50GB`.
    """
    split = split_torch_state_dict_into_shards(dict(layout), max_shard_size=largest)
    if split.is_sharded:
        total = {"total_parameters": sum(tensor.numel() for tensor in layout.values())}
        index: dict[str, Any] = {"metadata": {**total, **split.metadata}, "weight_map": split.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    writers = {}
    for file, names in split.filename_to_tensors.items():
        writers[file] = SafetensorsWriter(folder / file, {name: layout[name] for name in names}, {"format": "pt"})
    place = {name: writers[file] for file, names in split.filename_to_tensors.items() for name in names}
    with _all(list(writers.values())):
        for name, tensor in tensors:
            place[name].write(name, tensor)


def _all(writers: list[SafetensorsWriter]) -> Any:  # noqa: ANN401 - a context manager
    """Return a context in which all writers are open."""
    from contextlib import ExitStack

    stack = ExitStack()
    for writer in writers:
        stack.enter_context(writer)
    return stack


def _header(layout: Layout, metadata: Mapping[str, str]) -> tuple[bytes, dict[str, int]]:
    """Return the bytes before the numbers, and where those of each tensor begin after it."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offsets, end = {}, 0
    for name in sorted(layout, key=lambda name: (-_ORDER.index(_NAMES[layout[name].dtype]), name)):
        tensor = layout[name]
        start, end = end, end + math.prod(tensor.shape) * tensor.dtype.itemsize
        offsets[name] = start
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, offsets
