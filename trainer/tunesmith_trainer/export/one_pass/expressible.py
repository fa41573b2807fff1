"""What of a model's configuration a trace into a graph cannot hold: all that depends on the length of a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith_trainer.models.checks import invalid

_FAMILIES = "a BERT, RoBERTa, DistilBERT, DeBERTa-v2, ModernBERT or XLM-RoBERTa model"


def require_expressible(config: Mapping[str, Any], name: str) -> None:
    """Fail if an export would not compute the same as transformers.

    Args:
        config: The configuration as transformers 5 writes it (`config.to_dict()`).
        name: The model's name in messages.

    Raises:
        StageError: INVALID_MODEL.
    """
    rope = config.get("rope_parameters")
    kinds = {rope.get("rope_type")} if isinstance(rope, Mapping) else set()
    if isinstance(rope, Mapping):  # ModernBERT has one for each kind of attention
        kinds |= {value.get("rope_type") for value in rope.values() if isinstance(value, Mapping)}
    if "dynamic" in kinds:
        raise invalid(
            name,
            "it cannot be exported: its rotary embedding (rope_type dynamic) depends on the length of a row",
            "Take a model without it, or write export.precisions: []",
        )
    if config.get("is_decoder") or config.get("add_cross_attention"):
        raise invalid(
            name,
            "it cannot be exported: config.json makes a decoder of it (is_decoder or add_cross_attention)",
            f"Take {_FAMILIES}, or set both to false",
        )
