"""Loads a base model with the weights of its linear layers in nf4, one tensor after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
from transformers.modeling_utils import set_quantized_state

from tunesmith_api.artifact import digest_of_json
from tunesmith_trainer.models.linears import is_within
from tunesmith_trainer.models.loading import is_computed, tensor_sources
from tunesmith_trainer.models.memory import give_back
from tunesmith_trainer.models.nf4 import Nf4Linear, Nf4Weight, can_quantize
from tunesmith_trainer.models.weights import WeightFiles


def load_quantized(
    folder: Path,
    dtype: str,
    model_class: Any = AutoModelForCausalLM,  # noqa: ANN401
    heads: Callable[[Any], Sequence[str]] = lambda model: (),
) -> Any:  # noqa: ANN401
    """Return the model in a folder, on the CPU, with quantized linear layers.

    In memory are the weights as they are kept, and the largest tensor as its file has it.

    Args:
        folder: The model in the transformers layout.
        dtype: Number format of all other weights, as torch names it, and of the parameters that hold packed ones.
        model_class: One of transformers' Auto classes.
        heads: Returns the names of the modules of a model that are trained whole, and so are not quantized.

    Returns:
        The model; its attribute `nf4_digest` is the digest of all quantized weights.

    Raises:
        StageError: INVALID_MODEL; the folder has no tensor of a name that the model needs.
    """
    from accelerate import init_empty_weights

    kind: torch.dtype = getattr(torch, dtype)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # Otherwise ZeRO 3 would partition the empty weights.
    with set_quantized_state(), init_empty_weights(include_buffers=False):
        model = model_class.from_config(config, dtype=kind)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    names, files = tensor_sources(model, folder), WeightFiles(folder)
    layers, digests = set(quantized_layers(model, heads(model))), {}
    for layer in sorted(layers):
        weight = Nf4Weight(files[names[f"{layer}.weight"]])
        digests[layer] = weight.digest()
        bias = files[names[f"{layer}.bias"]].to(kind) if f"{layer}.bias" in names else None
        model.set_submodule(layer, Nf4Linear(weight, bias, kind))
    for name, source in names.items():
        owner, _, last = name.rpartition(".")
        if owner not in layers:
            _set(model.get_submodule(owner), last, files[source], kind)
    for name, module in model.named_modules():
        own = module.named_parameters(recurse=False)
        if any(weight.is_meta and is_computed(model, f"{name}.{last}") for last, weight in own):
            module.to_empty(device="cpu", recurse=False)
            model._init_weights(module)
    model.tie_weights()
    model.nf4_digest = digest_of_layers(digests)
    give_back()
    return model.eval()


def quantized_layers(model: Any, heads: Sequence[str] = ()) -> list[str]:  # noqa: ANN401 - a transformers model
    """Return the full names of the linear layers whose weights are quantized: all but those of the output."""
    output = model.get_output_embeddings()
    return [
        name
        for name, module in model.named_modules()
        if type(module) is nn.Linear
        and module is not output
        and not is_within(name, heads)
        and can_quantize(tuple(module.weight.shape))
    ]


def digest_of_layers(digests: Mapping[str, str]) -> str:
    """Return the digest of all quantized weights, from those of each layer."""
    return digest_of_json(dict(sorted(digests.items())))


def _set(module: nn.Module, name: str, value: torch.Tensor, kind: torch.dtype) -> None:
    """Set a parameter or buffer of a module."""
    value = value.to(kind) if value.is_floating_point() else value
    if name in module._parameters:
        module._parameters[name] = nn.Parameter(value, requires_grad=False)
    else:
        module._buffers[name] = value
