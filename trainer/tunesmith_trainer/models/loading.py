"""Loads and saves models, from local safetensors only."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.models.context import served_positions

log = logging.getLogger(__name__)

# The stage shows its own progress; a bar for each file of the model would add nothing.
transformers_logging.disable_progress_bar()


def device() -> torch.device:
    """Return the device that models are evaluated on: the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_weights(
    folder: Path,
    dtype: str = "float32",
    *,
    model_class: Any = AutoModelForCausalLM,  # noqa: ANN401 - one of transformers' Auto classes
    remedy: str = "Use a causal language model in the transformers layout, with its weights in safetensors",
) -> Any:  # noqa: ANN401 - a transformers model
    """Return the model in a folder, on the CPU.

    Args:
        folder: The model in the transformers layout.
        dtype: Number format of its weights, as torch names it.
        model_class: The class that loads it.
        remedy: What to do when it cannot be loaded.

    Raises:
        StageError: INVALID_MODEL; the folder holds no such model.
    """
    try:
        return model_class.from_pretrained(
            folder, dtype=getattr(torch, dtype), use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise StageError(Reason.INVALID_MODEL, f"{folder}: {' '.join(str(error).split())}", remedy) from error


def load_model(folder: Path, model_class: Any = AutoModelForCausalLM) -> Any:  # noqa: ANN401
    """Return the model in a folder, in fp32, ready for inference on `device()`.

    Raises:
        StageError: INVALID_MODEL; the folder holds no such model.
    """
    remedy = "Run the stage again in a new work folder"
    return load_weights(folder, model_class=model_class, remedy=remedy).to(device()).eval()


def takes_logits_to_keep(model: Any) -> bool:  # noqa: ANN401
    """Return whether the model, with or without an adapter, can compute the logits of chosen positions only."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(base.forward).parameters


def save_model(model: Any, folder: Path) -> None:  # noqa: ANN401
    """Write a dense model's weights, configuration and generation settings in the transformers layout.

    Equivalent to `save_pretrained` for these models, which would import DeepSpeed and so take seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    if getattr(model, "generation_config", None) is not None:  # None on a model that generates nothing
        model.generation_config.save_pretrained(folder)
    # A tied weight is stored once, under the name that the others are tied to.
    weights = {
        name: tensor.contiguous()
        for name, tensor in model.state_dict().items()
        if name not in model.all_tied_weights_keys
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:  # noqa: ANN401
    """Return the tokens that end an answer: the tokenizer's, the model's and its generation settings'."""
    found: set[int] = set()
    for source in (tokenizer, model.config, getattr(model, "generation_config", None)):
        value = getattr(source, "eos_token_id", None)
        if value is not None:
            found.update(value if isinstance(value, list | tuple) else [value])
    return frozenset(found)


def context_length(model: Any) -> int:  # noqa: ANN401
    """Return the longest sequence that the model is served with, in tokens."""
    return served_positions(model.config.to_dict()) or 1 << 30
