"""Checks a base model's weights against its architecture, with no more than a piece of a tensor in memory."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith_api.failures import StageError
from tunesmith_trainer.models.checks import invalid
from tunesmith_trainer.models.linears import linear_layers
from tunesmith_trainer.models.old_names import present_name
from tunesmith_trainer.models.weight_stream import StoredTensor, stored_tensors
from tunesmith_trainer.runtime.model_libraries import MODELS, importing_models

log = logging.getLogger(__name__)

_NAMED = 5  # tensors that a message names
_MOST_LAYERS = 10_000  # more would take very long to build, and can only be a mistake
_ANOTHER = "Download or save the model again, or take another revision"
_CONFIG = "Correct config.json, which describes another model than the weights are of"


@dataclass(frozen=True)
class Architecture:
    """A model as its config.json describes it.

    Attributes:
        config: The configuration, in transformers' class.
        shapes: The shape of each tensor of its state.
        tied: Name of each tied tensor, which files may leave out, and the name of the tensor that it is tied to.
        linears: Inputs and outputs of each linear layer but the output layer.
        computed: Patterns of names of tensors that transformers computes where files have none, such as sinusoids.
        ignored: Patterns of names that transformers expects in files and ignores.
    """

    config: Any
    shapes: Mapping[str, tuple[int, ...]]
    tied: Mapping[str, str]
    ignored: tuple[str, ...]
    linears: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    computed: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """The number of parameters, tied ones once."""
        return sum(_count(shape) for name, shape in self.shapes.items() if name not in self.tied)


def read_architecture(folder: Path, name: str, model_class: Any = None) -> Architecture:  # noqa: ANN401
    """Build a model on the meta device, which takes no memory, and return what it consists of.

    Args:
        folder: The model in the transformers layout.
        name: Its name in messages.
        model_class: A class of transformers, or one of its Auto classes; causal language models by default.

    Raises:
        StageError: INVALID_MODEL: transformers cannot build it.
    """
    with importing_models(MODELS):
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

    try:
        layers = json.loads((folder / "config.json").read_bytes()).get("num_hidden_layers")
        if isinstance(layers, int) and layers > _MOST_LAYERS:
            raise ValueError(f"num_hidden_layers is {layers}")
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model = _built(model_class or AutoModelForCausalLM, config)
        shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    except Exception as error:  # a wrong value can make the library raise anything
        problem = " ".join(str(error).split())[:300] or type(error).__name__
        raise invalid(
            name, f"transformers cannot build the model that config.json describes: {problem}", _CONFIG
        ) from error
    ignored = tuple(getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ())
    computed = tuple(getattr(model, "_keys_to_ignore_on_load_missing", None) or ())
    return Architecture(config, shapes, dict(model.all_tied_weights_keys), ignored, linear_layers(model), computed)


def _built(model_class: Any, config: Any) -> Any:  # noqa: ANN401
    """Return a new model of an Auto class, or of one of the classes that those choose from."""
    return model_class.from_config(config) if hasattr(model_class, "from_config") else model_class(config)


def check_weights(
    folder: Path, name: str, architecture: Architecture, proceed: Callable[[], None] = lambda: None
) -> None:
    """Check that every tensor of a model is there, has the right shape and only finite numbers.

    Args:
        folder: The model; its files are safetensors (see `check_model`).
        name: Its name in messages.
        architecture: The tensors that it must have.
        proceed: Called before each piece that is read; may raise an error to stop.

    Raises:
        StageError: INVALID_MODEL, naming the tensors.
    """
    tensors = {present_name(key): tensor for key, tensor in stored_tensors(folder).items()}
    present = set(tensors)
    misshapen: list[str] = []
    broken: list[str] = []
    for key in sorted(present & set(architecture.shapes)):
        tensor, expected = tensors[key], architecture.shapes[key]
        if tensor.shape != expected:
            misshapen.append(f"{key} is {list(tensor.shape)}, not {list(expected)}")
        elif problem := _number_problem(tensor, proceed):
            broken.append(f"{key} {problem}")
    if missing := _missing(architecture, present):
        raise _named(name, missing, "tensors of the model are missing", _ANOTHER)
    if misshapen:
        raise _named(name, misshapen, "tensors have another shape than config.json says", _CONFIG)
    if broken:
        raise _named(name, broken, "tensors hold values that no model can be trained from", _ANOTHER)
    for key, source in architecture.tied.items():
        if key in present and source in present and not _are_equal(tensors[key], tensors[source]):
            raise invalid(
                name,
                f"config.json ties {key} to {source}, but the files hold two different tensors",
                f"Set tie_word_embeddings to false in config.json, or remove {key} from the files, "
                "whichever the model was trained with",
            )
    unknown = sorted(
        key
        for key in present - set(architecture.shapes)
        if not any(re.search(pattern, key) for pattern in architecture.ignored) and not key.endswith(".inv_freq")
    )
    if unknown:
        log.warning("%s: %d tensors are no part of the model and are ignored: %s", name, len(unknown), _some(unknown))


def _missing(architecture: Architecture, present: set[str]) -> list[str]:
    """Return the names of missing tensors. One of several tied tensors is enough."""
    held = present | {tied for tied, source in architecture.tied.items() if source in present}
    held |= {source for tied, source in architecture.tied.items() if tied in present}
    missing = sorted(set(architecture.shapes) - held)
    return [name for name in missing if not any(re.search(pattern, name) for pattern in architecture.computed)]


def _number_problem(tensor: StoredTensor, proceed: Callable[[], None]) -> str | None:
    """Return what is wrong with a tensor's numbers, as the end of a sentence; None if nothing is."""
    import torch

    type_ = getattr(torch, tensor.type, None)
    if type_ is None or not type_.is_floating_point:
        return f"is of type {tensor.type}"
    for piece in tensor.pieces():
        proceed()
        # NaN is the smallest and the largest value of numbers of which one is NaN.
        low, high = torch.aminmax(piece if type_.itemsize > 1 else piece.float())
        if torch.isnan(low) or torch.isnan(high):
            return "holds NaN"
        if torch.isinf(low) or torch.isinf(high):
            return "holds an infinite number"
    return None


def _are_equal(one: StoredTensor, other: StoredTensor) -> bool:
    """Return whether two tensors hold the same numbers in the same format."""
    if (one.type, one.shape) != (other.type, other.shape):
        return False
    return all(bool((piece == same).all()) for piece, same in zip(one.pieces(), other.pieces(), strict=True))


def _named(name: str, entries: list[str], problem: str, remedy: str) -> StageError:
    return invalid(name, f"{len(entries)} {problem}: {_some(entries)}", remedy)


def _some(entries: list[str]) -> str:
    more = f" and {len(entries) - _NAMED} more" if len(entries) > _NAMED else ""
    return ", ".join(entries[:_NAMED]) + more


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
