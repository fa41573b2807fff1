"""Writes a base model whose linear layers have the weights that training computed with, dequantized from nf4."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file

from tunesmith_trainer.models.loading import tensor_sources
from tunesmith_trainer.models.nf4 import Nf4Linear
from tunesmith_trainer.models.weights import WeightFiles
from tunesmith_trainer.storage.files import link_tree

_SHARD = 10**9  # bytes of a file, which are in memory while it is written
_CONFIGURATION = ("config.json", "generation_config.json")


def write_dequantized(model: Any, base: Path, folder: Path) -> None:  # noqa: ANN401 - a transformers model
    """Write a model's weights, those of quantized layers dequantized, in the number formats of the base model's files.

    Dequantizing gives numbers of these formats, so nothing is rounded a second time. In memory are the quantized model
    and the tensors of one file.

    Args:
        model: The model from `load_quantized`.
        base: Folder of the base model.
        folder: The folder to make, in the transformers layout without a tokenizer.
    """
    folder.mkdir(parents=True)
    for name in _CONFIGURATION:
        if (base / name).is_file():
            link_tree(base / name, folder / name)
    files, names = WeightFiles(base), tensor_sources(model, base)
    layers = {f"{name}.weight": module for name, module in model.named_modules() if isinstance(module, Nf4Linear)}
    empty, read = {}, {}
    for name, source in names.items():
        kind = layers[name].state.dtype if name in layers else _type(files, source)
        shape = files.shape(source)
        empty[source] = torch.empty(shape, dtype=kind, device="meta")
        read[source] = layers[name].dequantize if name in layers else _reader(files, source)
    for path, shard in _shards(empty, folder):
        save_file({source: read[source]().contiguous() for source in shard}, path, metadata={"format": "pt"})


def _type(files: WeightFiles, source: str) -> torch.dtype:
    kind: torch.dtype = getattr(torch, files.type_name(source), torch.float32)
    return kind


def _reader(files: WeightFiles, source: str) -> Callable[[], torch.Tensor]:
    def read() -> torch.Tensor:
        tensor: torch.Tensor = files[source]
        return tensor

    return read


def _shards(tensors: dict[str, torch.Tensor], folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield the path of each file to write with the names of its tensors; write the index if there are several."""
    split = split_torch_state_dict_into_shards(tensors, max_shard_size=_SHARD)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    for file, shard in split.filename_to_tensors.items():
        yield folder / file, shard
