"""Loads and saves models, from local safetensors only."""

from __future__ import annotations

import copy
import inspect
import logging
import re
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.models.context import served_positions
from tunesmith_trainer.models.memory import fits_as_float32
from tunesmith_trainer.models.old_names import old_name
from tunesmith_trainer.models.weights import WeightFiles
from tunesmith_trainer.models.widening import can_widen, fast_arithmetic, widen

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
    """Return the model in a folder, ready for inference on `device()`.

    A model whose weights are in fp32, or take little memory in it, is in fp32. Another keeps its weights in the type in
    which they are stored, mapped from the files; it computes in bf16 where the hardware does, and in fp32 within
    `in_float32`.

    Raises:
        StageError: INVALID_MODEL; the folder holds no such model.
    """
    load = partial(load_weights, folder, model_class=model_class, remedy="Run the stage again in a new work folder")
    files = WeightFiles(folder)
    if files.main_type not in ("bfloat16", "float16") or fits_as_float32(files):
        model = load()
        model.config.dtype = files.main_type
        return model.to(device()).eval()
    model = load(files.main_type)
    if not can_widen(model):
        log.warning("%s: the weights are converted to fp32, as this architecture cannot compute with others", folder)
        return load().to(device()).eval()
    _keep_types(model, files)
    widen(model, fast_arithmetic(model.dtype, device()))
    return model.to(device()).eval()


def _keep_types(model: Any, files: WeightFiles) -> None:  # noqa: ANN401
    """Undo that some tensors were converted to the number format of most."""
    from accelerate import init_empty_weights

    for name, parameter in model.named_parameters():
        if name in files.names() and files.type_name(name) == "float32":
            parameter.data = files[name]
    kept = model.state_dict()
    # Buffers that are no part of the files were computed in that number format too.
    config = copy.deepcopy(model.config)
    with init_empty_weights(include_buffers=False):
        exact = type(model)._from_config(config, dtype=torch.float32)
    for name, value in exact.named_buffers():
        if name not in kept:
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, value)


def takes_logits_to_keep(model: Any) -> bool:  # noqa: ANN401
    """Return whether the model, with or without an adapter, can compute the logits of chosen positions only."""
    return "logits_to_keep" in inspect.signature(without_adapter(model).forward).parameters


def without_adapter(model: Any) -> Any:  # noqa: ANN401
    """Return the transformers model, also of one that an adapter is trained beside."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def save_configuration(model: Any, folder: Path) -> None:  # noqa: ANN401
    """Write a model's configuration and generation settings in the transformers layout; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    if getattr(model, "generation_config", None) is not None:  # None on a model that generates nothing
        model.generation_config.save_pretrained(folder)


def tensor_sources(model: Any, folder: Path) -> dict[str, str]:  # noqa: ANN401
    """Return the name of each tensor of a model's state, and the name that it has in the model's files.

    Of tensors that are tied, only the one that the others are tied to is named. One that the files lack and that
    transformers computes, such as sinusoids, is left out.

    Args:
        model: The model.
        folder: Its files.

    Raises:
        StageError: INVALID_MODEL: the files name the tensors differently.
    """
    held, tied, found = WeightFiles(folder).names(), model.all_tied_weights_keys, {}
    for name in model.state_dict():
        if name in tied:
            continue
        names = [name, old_name(name), *(other for other, source in tied.items() if source == name)]
        source = next((name for name in names if name in held), None)
        if source is None and is_computed(model, name):
            continue
        if source is None:
            raise StageError(
                Reason.INVALID_MODEL,
                f"{folder} has no tensor {name}",
                "Load the model with transformers and save it again, which gives its tensors their present names",
            )
        found[name] = source
    return found


def is_computed(model: Any, name: str) -> bool:  # noqa: ANN401
    """Return whether transformers computes a tensor of a model's state where its files have none."""
    patterns = getattr(model, "_keys_to_ignore_on_load_missing", None) or ()
    return any(re.search(pattern, name) for pattern in patterns)


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
