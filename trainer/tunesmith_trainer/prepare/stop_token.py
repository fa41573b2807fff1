"""Checks that answers are learned together with a token that ends them: else the served model would never stop."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tunesmith_trainer.data.token_store import read_array
from tunesmith_trainer.models.base import BaseModel
from tunesmith_trainer.models.checks import invalid
from tunesmith_trainer.models.weights_check import Architecture
from tunesmith_trainer.storage.files import read_json


def require_stop_token(store: Path, model: BaseModel, architecture: Architecture) -> None:
    """Fail if no target token of conversations is one that ends an answer when the model is served.

    Args:
        store: Folder of the store of the training rows.
        model: The base model.
        architecture: Its configuration.

    Raises:
        StageError: INVALID_MODEL.
    """
    generation = read_json(model.path / "generation_config.json") or {}
    stops: set[int] = set()
    for value in (model.tokenizer.eos_token_id, architecture.config.eos_token_id, generation.get("eos_token_id")):
        stops.update(value if isinstance(value, list | tuple) else [] if value is None else [value])
    for tokens, mask in zip(read_array(store / "tokens.npy"), read_array(store / "mask.npy"), strict=True):
        if np.isin(tokens[mask.astype(bool)], sorted(stops)).any():
            return
    names = ", ".join(sorted(str(name) for name in model.tokenizer.convert_ids_to_tokens(sorted(stops)))) or "not set"
    raise invalid(
        model.uri,
        f"no answer of the training rows ends with a token that stops generation (EOS is {names}), so the model would "
        "never learn to stop",
        "End the assistant's turn in chat_template.jinja with the EOS token, or name the token that ends it as "
        "eos_token in tokenizer_config.json",
    )
