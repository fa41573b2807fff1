"""Loading a model's tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunesmith_api.local.imports import importing
from tunesmith_trainer.models.checks import invalid


def load_tokenizer(folder: Path, name: str | None = None, vocabulary: int | None = None) -> Any:  # noqa: ANN401 - transformers has no types
    """Return a model's tokenizer (transformers, fast).

    Args:
        folder: The model.
        name: The model's name in messages; the folder by default.
        vocabulary: Rows of the model's embedding. If given, the tokenizer may not have more tokens.

    Raises:
        StageError: INVALID_MODEL; it cannot be loaded or does not fit the model.
    """
    name = name or str(folder)
    with importing():
        from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a broken file can make the library raise anything
        problem = " ".join(str(error).split())[:300]
        raise invalid(name, f"the tokenizer cannot be loaded: {problem}", "Save the tokenizer again") from error
    if not tokenizer.is_fast:
        raise invalid(
            name, "the tokenizer is not a fast one", "Save it with use_fast=True, so that it has tokenizer.json"
        )
    if vocabulary is not None and len(tokenizer) > vocabulary:
        raise invalid(
            name,
            f"the tokenizer has {len(tokenizer)} tokens, the model's embedding {vocabulary} rows",
            "Give the model its own tokenizer, or resize its embedding",
        )
    return tokenizer


def padding_token(folder: Path) -> int:
    """Return the token that rows of a model are padded with: its own, or if it has none the one that ends a text.

    Args:
        folder: The model.
    """
    config = json.loads((folder / "config.json").read_bytes())
    tokenizer = load_tokenizer(folder)
    ends = config.get("eos_token_id")
    last = ends[0] if isinstance(ends, list) and ends else ends
    found = (config.get("pad_token_id"), tokenizer.pad_token_id, tokenizer.eos_token_id, last)
    return next((int(token) for token in found if isinstance(token, int) and token >= 0), 0)
