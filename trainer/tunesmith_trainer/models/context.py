"""The longest sequence that a model is trained, evaluated and served with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_AFTER_PADDING = ("roberta", "xlm-roberta")
"""Families that number the tokens of a row from the one after their padding token's id."""


def usable_positions(config: Mapping[str, Any]) -> int | None:
    """Return the tokens of a row for which a model has positions; None if it has no limit.

    Args:
        config: The model's config.json.
    """
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int):
        return None
    padding = config.get("pad_token_id")
    skipped = (1 if padding is None else int(padding)) + 1 if config.get("model_type") in _AFTER_PADDING else 0
    return positions - skipped


def served_positions(config: Mapping[str, Any]) -> int | None:
    """Return the longest sequence that an export computes as transformers does, in tokens; None if it has no limit.

    With longrope it ends where the short factors do: beyond, transformers computes all keys of a sequence anew with the
    long factors, which a server that keeps keys cannot do.

    Args:
        config: The model's configuration as transformers 5 writes it (`config.to_dict()`).
    """
    positions = usable_positions(config)
    rope = config.get("rope_parameters")
    lengths = [positions] if positions else []
    if isinstance(rope, Mapping) and rope.get("rope_type") == "longrope":
        lengths.append(int(rope["original_max_position_embeddings"]))
    return min(lengths, default=None)
