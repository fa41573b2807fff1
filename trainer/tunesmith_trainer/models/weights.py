"""Reads a model's tensors from its safetensors files one at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any


def open_safetensors(path: Path) -> Any:  # noqa: ANN401 - safetensors has no types
    """Return a file whose tensors are read when they are asked for, as torch tensors."""
    from safetensors import safe_open

    return safe_open(path, framework="pt")


class WeightFiles:
    """The tensors of a model in the transformers layout. No more than one is in memory at a time."""

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
