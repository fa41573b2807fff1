"""The model that is trained: the base model, whole or with an adapter."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import AdapterSpec

transformers_logging.disable_progress_bar()


def load_base(folder: Path, dtype: torch.dtype) -> Any:  # noqa: ANN401 - a transformers model
    """Return the causal language model in a folder.

    Raises:
        StageError: The folder holds no such model.
    """
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise StageError(
            Reason.INVALID_MODEL,
            f"{folder}: {' '.join(str(error).split())}",
            "Use a causal language model in the transformers layout, with its weights in safetensors",
        ) from error


def add_adapter(model: Any, adapter: AdapterSpec, *, dora: bool) -> Any:  # noqa: ANN401
    """Return the model with a new LoRA or DoRA adapter; its base no longer learns.

    Raises:
        StageError: A name in `targetModules` is that of no linear layer.
    """
    from peft import LoraConfig, get_peft_model

    targets: Any = "all-linear"
    if adapter.target_modules is not None:
        check_targets(adapter.target_modules, linear_layers(model))
        targets = sorted(adapter.target_modules)
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=targets,
        use_dora=dora,
        bias="none",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def linear_layers(model: Any) -> list[str]:  # noqa: ANN401
    """Return the full names of the linear layers that can have an adapter: all but the output layer."""
    output = model.get_output_embeddings()
    return [
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and module is not output
    ]


def check_targets(targets: tuple[str, ...], layers: list[str]) -> None:
    """Raise when a target is the name (or the end of the name) of no layer.

    Args:
        targets: `spec.adapter.targetModules`.
        layers: Full names of the linear layers.
    """
    wrong = [t for t in targets if not any(name == t or name.endswith(f".{t}") for name in layers)]
    if wrong:
        known = sorted({name.rsplit(".", 1)[-1] for name in layers})
        raise StageError(
            Reason.INVALID_SPEC,
            f"spec.adapter.targetModules: the model has no linear layer {', '.join(wrong)}",
            f"Write some of {', '.join(known)}, or leave targetModules out for all of them",
        )


def takes_logits_to_keep(model: Any) -> bool:  # noqa: ANN401
    """Return whether the model, with or without an adapter, computes the logits of chosen positions only."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(base.forward).parameters
