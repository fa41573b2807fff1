"""Reads a model's tensors from its safetensors files one at a time."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def open_safetensors(path: Path) -> Any:  # noqa: ANN401 - safetensors has no types
    """Return a file whose tensors are read when they are asked for, as torch tensors.

    They are read, not mapped: mapped pages would count as the process's memory until the file is closed.
    """
    from safetensors import safe_open

    return safe_open(path, framework="pt", backend="pread")


class WeightFiles:
    """The tensors of a model in the transformers layout. Each is read when it is asked for, and kept by nobody."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Any] = {}

    @cached_property
    def _places(self) -> Mapping[str, str]:
        """The file of each tensor, by what the files hold and not by what the index says of them."""
        index = self._folder / "model.safetensors.index.json"
        files = ["model.safetensors"]
        if index.exists():
            files = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        return {name: file for file in files for name in self._open(file).keys()}

    def _open(self, name: str) -> Any:  # noqa: ANN401
        if name not in self._files:
            self._files[name] = open_safetensors(self._folder / name)
        return self._files[name]

    def names(self) -> set[str]:
        """Return the names of all tensors."""
        return set(self._places)

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401
        """Return a tensor, in the number format of the file."""
        return self._open(self._places[name]).get_tensor(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, from the file's header."""
        return tuple(self._slice(name).get_shape())

    def type_name(self, name: str) -> str:
        """Return a tensor's number format as torch names it, such as `bfloat16`, from the file's header."""
        stored = self._slice(name).get_dtype()
        return _TYPES.get(stored, stored)

    def _slice(self, name: str) -> Any:  # noqa: ANN401
        return self._open(self._places[name]).get_slice(name)

    @cached_property
    def parameters(self) -> int:
        """The number of stored values."""
        return sum(math.prod(self.shape(name)) for name in self._places)

    @cached_property
    def bytes(self) -> int:
        """The size of all tensors."""
        return sum(math.prod(self.shape(name)) * _BYTES.get(self._slice(name).get_dtype(), 1) for name in self._places)

    @cached_property
    def main_type(self) -> str:
        """The number format of most values, as torch names it."""
        counts: Counter[str] = Counter()
        for name in sorted(self._places):
            counts[self.type_name(name)] += math.prod(self.shape(name))
        return counts.most_common(1)[0][0] if counts else "float32"
