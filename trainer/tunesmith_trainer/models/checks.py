"""Checks that a folder holds a base model that can be trained: its files, architecture and lengths."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import TrainingJobSpec
from tunesmith_api.tasks import TASKS
from tunesmith_trainer.models.context import usable_positions

_LAYOUT = "Give a folder in the transformers layout: config.json, *.safetensors, tokenizer.json, tokenizer_config.json"
_FEWEST = 8  # the least that spec.training.maxLength can be
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


class Supported(tuple[str, ...]):
    """The architectures that a task supports, by the names of their classes in transformers.

    Attributes:
        instead: What to do with a causal language model, as the end of a sentence.
    """

    instead: str

    def __new__(cls, names: Iterable[str], instead: str) -> Supported:
        """Name the architectures."""
        found = super().__new__(cls, names)
        found.instead = instead
        return found


def invalid(name: str, problem: str, remedy: str) -> StageError:
    """Return the error for a base model that cannot be used."""
    return StageError(Reason.INVALID_MODEL, f"{name}: {problem}", remedy)


def required_positions(spec: TrainingJobSpec) -> int:
    """Return the tokens that a base model must take at least.

    Rows of tasks that answer in one pass are cut to what the model takes, whatever `maxLength` says beyond that: its
    default is for models that generate text, and many encoders take 512 tokens.
    """
    return _FEWEST if TASKS[spec.task].engine == "encoder" else spec.training.max_length


def check_model(folder: Path, name: str, max_length: int, architectures: Collection[str]) -> dict[str, Any]:
    """Check a model's files and return its config.json.

    Args:
        folder: The model.
        name: Its name in messages.
        max_length: Length of the longest row of the training, in tokens.
        architectures: The architectures that the task supports.

    Raises:
        StageError: Something is missing, broken or not allowed (INVALID_MODEL), or the model's context is shorter than
            `max_length` (INVALID_SPEC).
    """
    config = _read_config(folder / "config.json", name)
    _check_config(config, name, architectures)
    check_weight_files(folder, name)
    _check_the_rest(config, folder, name, max_length)
    return config


def check_small_files(folder: Path, name: str, max_length: int, architectures: Collection[str]) -> dict[str, Any]:
    """Check a model's files as `check_model` does, but for its weights, which need not be there yet."""
    config = _read_config(folder / "config.json", name)
    _check_config(config, name, architectures)
    _check_the_rest(config, folder, name, max_length)
    return config


def _check_the_rest(config: dict[str, Any], folder: Path, name: str, max_length: int) -> None:
    """Check a model's tokenizer and its context."""
    _check_tokenizer(folder, name, config)
    positions = usable_positions(config)
    if positions is not None and positions < max_length:
        raise StageError(
            Reason.INVALID_SPEC,
            f"spec.training.maxLength is {max_length}, but {name} takes {positions} tokens at most",
            f"Write maxLength: {positions} or less",
        )


def _read_config(path: Path, name: str) -> dict[str, Any]:
    """Return a JSON object from a model's file."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise invalid(name, f"{path.name} is missing", _LAYOUT) from None
    except (ValueError, RecursionError) as error:
        raise invalid(name, f"{path.name} is broken: {error}", "Download or save the model again") from None
    if not isinstance(value, dict):
        raise invalid(name, f"{path.name} is not a JSON object", "Download or save the model again")
    return value


def _check_config(config: dict[str, Any], name: str, supported: Collection[str]) -> None:
    """Refuse custom code, quantised weights and architectures that cannot be exported."""
    if config.get("auto_map"):
        raise invalid(
            name,
            "config.json names code of the model's own (auto_map), which is never run",
            "Take a model whose architecture is part of transformers, or remove auto_map if it is",
        )
    if config.get("quantization_config"):
        raise invalid(
            name,
            "the weights are quantised",
            "Take the model's original, unquantised weights; with method: qlora they are stored in 4 bits",
        )
    architectures = config.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else None
    if named not in supported:
        instead = ""
        if isinstance(supported, Supported) and str(named).endswith("ForCausalLM"):
            instead = f"; {supported.instead}"
        raise invalid(
            name,
            f"the architecture {named or '(none named in config.json)'} is not supported",
            f"Take a model of one of these: {', '.join(sorted(supported))}" + instead,
        )
    for field in ("model_type", "vocab_size"):
        if field not in config:
            raise invalid(name, f"config.json has no {field}", "Download or save the model again")


def check_weight_files(folder: Path, name: str) -> None:
    """Check that the weights are safetensors, and that no file is missing or damaged.

    Raises:
        StageError: INVALID_MODEL.
    """
    index = folder / "model.safetensors.index.json"
    if index.exists():
        weight_map = _read_config(index, name).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise invalid(name, f"{index.name} has no weight_map", "Download or save the model again")
        files = sorted({str(file) for file in weight_map.values()})
    else:
        files = ["model.safetensors"]
    for file in files:
        path = folder / file
        if Path(file).name != file or not path.is_file():
            pickled = sorted(p.name for p in folder.iterdir() if p.name.endswith(PICKLED))
            if pickled and not index.exists():
                raise pickled_only(name, pickled)
            raise invalid(name, f"{file} is missing", _LAYOUT)
        _check_safetensors(path, name)


def pickled_only(name: str, files: list[str]) -> StageError:
    """Return the error for a model without safetensors."""
    return invalid(
        name,
        f"the weights are pickled ({files[0]}), which can run code and is never loaded",
        "Take a revision with safetensors, or convert once on a machine you trust: "
        "AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)",
    )


def _check_safetensors(path: Path, name: str) -> None:
    """Check that a file's header and size agree."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            file.keys()
    except (SafetensorError, OSError) as error:
        raise invalid(name, f"{path.name} is broken: {error}", "Download or save the model again") from None


def _check_tokenizer(folder: Path, name: str, config: dict[str, Any]) -> None:
    if not (folder / "tokenizer.json").is_file():
        remedy = "Save it once with AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        if config.get("model_type") == "marian":
            # transformers has no fast tokenizer for these, so saving theirs writes no tokenizer.json.
            remedy = "Write it once from source.spm, target.spm and vocab.json, as docs/translation.md shows for Marian"
        raise invalid(name, "tokenizer.json is missing", remedy)
    settings = folder / "tokenizer_config.json"
    if settings.exists() and _read_config(settings, name).get("auto_map"):
        raise invalid(
            name,
            "tokenizer_config.json names code of the model's own (auto_map), which is never run",
            "Remove auto_map",
        )
