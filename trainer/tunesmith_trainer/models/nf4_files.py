"""Writes a base model whose linear layers have the weights that training computed with, dequantized from nf4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tunesmith_trainer.models.loading import tensor_sources
from tunesmith_trainer.models.nf4 import Nf4Linear
from tunesmith_trainer.models.weight_writer import empty, write_model
from tunesmith_trainer.models.weights import WeightFiles
from tunesmith_trainer.storage.files import link_tree

_LARGEST_FILE = "5GB"
_CONFIGURATION = ("config.json", "generation_config.json")


def write_dequantized(model: Any, base: Path, folder: Path) -> None:  # noqa: ANN401 - a transformers model
    """Write a model's weights, those of quantized layers dequantized, in the number formats of the base model's files.

    Dequantizing gives numbers of these formats, so nothing is rounded a second time. In memory are the quantized model
    and one tensor.

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
    layout = {
        source: empty(
            files.shape(source), layers[name].state.dtype if name in layers else getattr(torch, files.type_name(source))
        )
        for name, source in names.items()
    }
    tensors = (
        (source, layers[name].dequantize() if name in layers else files[source]) for name, source in names.items()
    )
    write_model(folder, layout, tensors, _LARGEST_FILE)
