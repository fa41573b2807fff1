"""Merges an adapter into its base model from file to file, with few tensors in memory at a time.

Each merged weight is computed in fp32 and stored in the number format that it has in the base model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.methods.adapter import AdapterWeights
from tunesmith_trainer.methods.adapter_file import unfaithful
from tunesmith_trainer.models.weights import WeightFiles

_SHARD = 10**9  # bytes of a file, which are in memory while it is written
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
            raise StageError(
                Reason.EXPORT_FAILED,
                f"the merged {name} has values that are not finite in {str(stored.dtype).removeprefix('torch.')}",
                "Train with a lower learning rate, at which the weights stay moderate",
            )
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
    for file, shard in _shards(files, names, folder):
        tensors = {}
        for name in shard:
            before = files[names[name]]
            kind = before.dtype if before.dtype in _STORED else torch.float32
            if name in adapter.tensors:
                before = before.float()
                merged = adapter.merged_tensor(name, before)
                tensors[name] = merged.to(kind)
                rounding.add(name, before, merged, tensors[name])
            else:
                tensors[name] = before.to(kind) if before.is_floating_point() else before
        save_file(tensors, file, metadata={"format": "pt"})
    numbers = rounding.numbers()
    if numbers["updateKept"] < LEAST_KEPT:
        raise unfaithful(
            f"the base model's weights are {rounding.weights}, and rounding to it leaves "
            f"{numbers['updateKept']:.2g} of what was trained: the merged model is nearly the base model",
            "Train for more steps or with a higher learning rate, or give the base model's weights in fp32",
        )
    return numbers


def _shards(files: WeightFiles, names: Mapping[str, str], folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield the path of each file to write with the names of its tensors; write the index if there are several."""
    empty = {}
    for name, source in names.items():
        kind = getattr(torch, files.type_name(source), torch.float32)
        empty[name] = torch.empty(files.shape(source), dtype=kind if kind in _STORED else torch.float32, device="meta")
    split = split_torch_state_dict_into_shards(empty, max_shard_size=_SHARD)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    for file, shard in split.filename_to_tensors.items():
        yield folder / file, shard
