"""Loading models and tokenizers for inference: from local safetensors only, in fp32."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from tunesmith_api.failures import Reason, StageError

log = logging.getLogger(__name__)

# A bar for each of the few files of a model says nothing that the stage's own progress does not.
transformers_logging.disable_progress_bar()


def device() -> torch.device:
    """Return where models are evaluated: the GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_model(folder: Path) -> Any:  # noqa: ANN401 - a transformers model
    """Return the causal language model in a folder, in fp32, ready for inference on `device()`.

    Raises:
        StageError: The folder holds no such model.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise StageError(
            Reason.INVALID_MODEL, f"{folder}: {error}", "Run the stage again in a new work folder"
        ) from error
    return model.to(device()).eval()


def save_model(model: Any, folder: Path) -> None:  # noqa: ANN401
    """Write a dense model's weights, configuration and generation settings in the transformers layout.

    Does for these models what `save_pretrained` does, which imports DeepSpeed for it and with that takes seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    # A tied weight is stored once, under the name that the others are tied to.
    weights = {
        name: tensor.contiguous()
        for name, tensor in model.state_dict().items()
        if name not in model.all_tied_weights_keys
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def load_tokenizer(folder: Path) -> Any:  # noqa: ANN401 - a transformers tokenizer
    """Return the tokenizer in a folder.

    Raises:
        StageError: There is none, or it cannot be written as a tokenizer.json, which serving reads.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise StageError(Reason.INVALID_MODEL, f"{folder}: no usable tokenizer: {error}") from error
    if not tokenizer.is_fast:
        raise StageError(
            Reason.INVALID_MODEL,
            f"{folder}: the tokenizer has no tokenizer.json form",
            "Add a tokenizer.json to the base model",
        )
    return tokenizer


def stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:  # noqa: ANN401
    """Return the tokens that end an answer: the tokenizer's, the model's and its generation settings'."""
    found: set[int] = set()
    for source in (tokenizer, model.config, getattr(model, "generation_config", None)):
        value = getattr(source, "eos_token_id", None)
        if value is not None:
            found.update(value if isinstance(value, list | tuple) else [value])
    return frozenset(found)


def context_length(model: Any) -> int:  # noqa: ANN401
    """Return the longest sequence that the model takes, in tokens."""
    return int(getattr(model.config, "max_position_embeddings", None) or 1 << 30)
