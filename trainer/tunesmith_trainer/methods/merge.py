"""Merges an adapter into its base model from file to file, with few tensors in memory at a time.

Each merged weight is computed in fp32 and stored in the number format that it has in the base model. What was trained
whole beside the adapter takes the place of the base model's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.methods.adapter import AdapterWeights
from tunesmith_trainer.methods.adapter_file import unfaithful
from tunesmith_trainer.models.weight_writer import empty, write_model
from tunesmith_trainer.models.weights import WeightFiles

_SHARD = 10**9  # bytes of a file
_STORED = (torch.float32, torch.bfloat16, torch.float16)

LEAST_KEPT = 0.1
"""The least part of the adapter's update that must be left after rounding to the base model's number format."""


@dataclass
class Rounding:
    """What storing the merged weights in the base model's number format changed.

    Attributes:
        weights: The number format of most weights, as torch names it.
        largest: Largest change of a weight matrix by rounding, relative to it, both as the root of the sum of squares.
        kept: Sum of the products of the stored update and the exact one.
        exact: Sum of the squares of the exact update.
    """

    weights: str
    largest: float = 0.0
    kept: float = 0.0
    exact: float = 0.0

    def add(self, name: str, before: torch.Tensor, merged: torch.Tensor, stored: torch.Tensor) -> None:
        """Add a tensor.

        Args:
            name: Its name in messages.
            before: The base model's, float32.
            merged: The merged one, float32.
            stored: The merged one in the number format in which it is stored.

        Raises:
            StageError: EXPORT_FAILED: it has values that are not finite.
        """
        update = (merged - before).flatten()
        change = (stored.float() - merged).flatten()
        size, moved = float(merged.flatten() @ merged.flatten()), float(change @ change)
        if not math.isfinite(size + moved):
            raise _infinite(name, stored.dtype)
        self.largest = max(self.largest, math.sqrt(moved / size) if size else 0.0)
        squares = float(update @ update)
        self.exact += squares
        self.kept += squares + float(update @ change)

    def numbers(self) -> dict[str, Any]:
        """Return `{weights, largestRounding, updateKept}`."""
        kept = self.kept / self.exact if self.exact else 1.0
        return {"weights": self.weights, "largestRounding": self.largest, "updateKept": kept}


def merge_files(base: Path, adapter: AdapterWeights, names: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Write the merged weights as safetensors, in files of at most 1 GB with an index if there are several.

    Args:
        base: Folder of the base model.
        adapter: The adapter.
        names: The name of each tensor of the merged model, and the name that it has in the base model's files.
        folder: The folder to write to.

    Returns:
        `{weights, largestRounding, updateKept}`: the number format; the largest relative change of a weight matrix by
        rounding to it; the part of the adapter's update that rounding left, 1 if nothing was lost.

    Raises:
        StageError: Merged values are not finite, or rounding has lost the update.
    """
    files = WeightFiles(base)
    rounding = Rounding(files.main_type if getattr(torch, files.main_type) in _STORED else "float32")
    layout = {
        name: empty(files.shape(source), _stored(getattr(torch, files.type_name(source))))
        for name, source in names.items()
    }
    write_model(folder, layout, _merged(files, adapter, names, rounding), _SHARD)
    numbers = rounding.numbers()
    if numbers["updateKept"] < LEAST_KEPT:
        raise unfaithful(
            f"the base model's weights are {rounding.weights}, and rounding to it leaves "
            f"{numbers['updateKept']:.2g} of what was trained: the merged model is nearly the base model",
            "Train for more steps or with a higher learning rate, or give the base model's weights in fp32",
        )
    return numbers


def _merged(
    files: WeightFiles, adapter: AdapterWeights, names: Mapping[str, str], rounding: Rounding
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of the merged model by name, and note what rounding changes."""
    heads = set(adapter.heads)
    for name, source in names.items():
        before = files[source]
        kind = _stored(before.dtype)
        if name in heads:
            yield name, _finite(name, adapter.head(name).to(kind))
            continue
        if name not in adapter.tensors:
            yield name, before.to(kind)
            continue
        before = before.float()
        merged = adapter.merged_tensor(name, before)
        stored = merged.to(kind)
        rounding.add(name, before, merged, stored)
        yield name, stored


def _finite(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that is stored; fail if not all of its values are finite."""
    if not torch.isfinite(tensor).all():
        raise _infinite(name, tensor.dtype)
    return tensor


def _infinite(name: str, kind: torch.dtype) -> StageError:
    return StageError(
        Reason.EXPORT_FAILED,
        f"the merged {name} has values that are not finite in {str(kind).removeprefix('torch.')}",
        "Train with a lower learning rate, at which the weights stay moderate",
    )


def _stored(kind: torch.dtype) -> torch.dtype:
    """Return the number format that a tensor of the base model is stored in: float32 in place of rare ones."""
    return torch.float32 if kind.is_floating_point and kind not in _STORED else kind
