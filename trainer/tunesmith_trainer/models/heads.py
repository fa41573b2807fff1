"""The heads of models: what is the head, and a base model gets one, with random weights where it has none yet."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig
from transformers.utils import logging as transformers_logging

from tunesmith_trainer.models.checks import invalid
from tunesmith_trainer.models.layout import is_weights, local_files
from tunesmith_trainer.models.saving import save_model
from tunesmith_trainer.models.weights import WeightFiles

log = logging.getLogger(__name__)


def with_head(
    folder: Path,
    target: Path,
    model_class: Any,  # noqa: ANN401 - one of transformers' Auto classes
    settings: Mapping[str, Any],
    heads: Collection[str],
    seed: int,
) -> Path:
    """Return the folder of a base model with the head of a task: `target`, which is written, or the model itself.

    A head that the model already has is kept if it has as many outputs. A new one is the same for the same seed.

    Args:
        folder: The base model in the transformers layout.
        target: The folder to write.
        model_class: The class with the head.
        settings: Fields of config.json that belong to the head, such as `id2label` and `problem_type`.
        heads: Names of the modules that are the head, or contain it.
        seed: Seed of the new weights.

    Raises:
        StageError: INVALID_MODEL: it lacks more than the head.
    """
    shutil.rmtree(target, ignore_errors=True)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    given = config.to_dict()
    apply_settings(config, settings)
    stored = WeightFiles(folder).main_type
    with torch.random.fork_rng(devices=[]), _no_report():
        torch.manual_seed(seed)
        model, loading = model_class.from_pretrained(
            folder,
            config=config,
            dtype=getattr(torch, stored),
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    fresh = {*loading["missing_keys"], *(entry[0] for entry in loading["mismatched_keys"])}
    other = sorted(name for name in fresh if not any(part in heads for part in name.split(".")))
    if other:
        raise invalid(
            folder.name,
            f"{len(other)} tensors of the model are missing: {', '.join(other[:5])}",
            "Download or save the model again, or take another revision",
        )
    same = all(_plain(given.get(name)) == _plain(value) for name, value in settings.items())
    if not fresh and same and given.get("architectures") == [type(model).__name__]:
        return folder
    if fresh:
        log.info("the model gets a new head: %s", ", ".join(sorted(fresh)))
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    save_model(model, model.state_dict().items(), partial)
    for name in local_files(folder):
        if not is_weights(name) and not (partial / name).exists() and not name.endswith(".index.json"):
            shutil.copyfile(folder / name, partial / name)
    partial.replace(target)
    return target


@contextmanager
def _no_report() -> Iterator[None]:
    """Leave out transformers' table of the tensors that a model lacks: a line of the log says what is new."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


def head_modules(model: Any) -> list[str]:  # noqa: ANN401 - a transformers model with the head of a task
    """Return the full names of the modules of a head: what has weights outside the model proper, and the pooler.

    A pooler is a part of the model proper in some families, but most base models come without its weights.
    """
    prefix = model.base_model_prefix
    names = [name for name, module in model.named_children() if name != prefix and list(module.parameters())]
    proper = getattr(model, prefix)
    pooler = getattr(proper, "pooler", None)
    return [*names, f"{prefix}.pooler"] if pooler is not None else names


def empty_model(folder: Path, model_class: Any, settings: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return a model with the head of a task on the meta device, which takes no memory.

    Args:
        folder: The base model; only its config.json is read.
        model_class: One of transformers' Auto classes.
        settings: Fields of config.json that belong to the head.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    apply_settings(config, settings)
    with torch.device("meta"):
        return model_class.from_config(config)


def apply_settings(config: Any, settings: Mapping[str, Any]) -> None:  # noqa: ANN401
    """Set fields of a configuration; the keys of `id2label`, texts as in JSON, become numbers as transformers has them.

    Args:
        config: A configuration of transformers.
        settings: The fields.
    """
    for name, value in settings.items():
        labels = name == "id2label" and isinstance(value, Mapping)
        setattr(config, name, {int(key): label for key, label in value.items()} if labels else value)


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return a value as JSON has it, whose objects have names only."""
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else value
