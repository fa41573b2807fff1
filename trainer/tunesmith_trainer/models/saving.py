"""Saves a model whose weights come one at a time, as transformers saves one that is in memory as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import PrefixChange, revert_weight_conversion

from tunesmith_trainer.models.loading import save_configuration
from tunesmith_trainer.models.weight_writer import empty, write_model

_LARGEST_FILE = "50GB"  # the default of transformers


def save_model(model: Any, weights: Iterable[tuple[str, torch.Tensor]], folder: Path) -> None:  # noqa: ANN401
    """Write a model in the transformers layout; the folder is made.

    Args:
        model: The model. Its weights may be partitioned.
        weights: Their values by name. Each is let go of before the next one comes, unless the model's files have other
            tensors than the model has, which takes them all at once.
        folder: The folder.
    """
    model.config.dtype = str(model.dtype).removeprefix("torch.")
    save_configuration(model, folder)
    _forget_old_names(model)
    layout = _layout(model)
    if revert_weight_conversion(model, dict(layout)).keys() != layout.keys():
        held = {name: weight.clone() for name, weight in weights if name in layout}
        model.save_pretrained(folder, state_dict=held, max_shard_size=_LARGEST_FILE)
        return
    write_model(folder, layout, (item for item in weights if item[0] in layout), _LARGEST_FILE)


def _forget_old_names(model: Any) -> None:  # noqa: ANN401
    """Let tensors have their present names in files.

    Loaded under ZeRO 3, a model would give its LayerNorms the names that they had years ago: transformers then takes
    all names that it can read for those that the model's files have. Remove when it does so no longer.
    """
    given = getattr(model, "_weight_conversions", None)
    if not given:
        return
    present = {str(entry.source_patterns) for entry in get_model_conversion_mapping(model, add_legacy=False)}
    kept = [entry for entry in given if str(entry.source_patterns) in present or isinstance(entry, PrefixChange)]
    model._weight_conversions = kept or None


def _layout(model: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
    """Return the shapes of the tensors that are saved: of tied ones only that which the others are tied to."""
    state, tied = model.state_dict(keep_vars=True), model.all_tied_weights_keys
    ignored = {name for name, source in tied.items() if state.get(name) is state.get(source)}
    ignored.update(model._keys_to_ignore_on_save or ())
    return {
        name: empty(getattr(weight, "ds_shape", weight.shape), weight.dtype)
        for name, weight in state.items()
        if name not in ignored
    }
