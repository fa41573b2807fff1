"""Which configurations of a model an export computes as transformers does. Imports neither torch nor transformers.

tests/integration/publish/test_expressible.py holds this table against real exports of every family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith_trainer.export.architectures import EXPORTABLE

ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "llama3", "longrope")
"""Kinds of rotary position embeddings. Up to the served length, their values depend on the position alone."""

ACTIVATIONS = ("gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish")
"""Activations that the builder knows under the names that transformers uses."""

_ACTIVATION_FIELDS = {"GemmaForCausalLM": "hidden_act", "Gemma2ForCausalLM": "hidden_activation"}
_PARTIAL = ("Phi3ForCausalLM",)  # architectures that rotate a part of each head
_LAYER_TYPES = ("full_attention", "sliding_attention")
_MULTIPLE = 16  # of a head's size, in the attention kernel of ONNX Runtime for the CPU


@dataclass(frozen=True)
class Problem:
    """Why a configuration cannot be exported.

    Attributes:
        problem: The field of config.json and its value, as a sentence without a full stop.
        remedy: What to use instead.
    """

    problem: str
    remedy: str


def find_problem(config: Mapping[str, Any]) -> Problem | None:
    """Return why a model cannot be exported, or None if it can.

    Args:
        config: The model's configuration as transformers 5 writes it (`config.to_dict()`), defaults included.
    """
    architectures = config.get("architectures")
    architecture = architectures[0] if isinstance(architectures, list) and architectures else None
    if not isinstance(architecture, str) or architecture not in EXPORTABLE:
        names = ", ".join(sorted(EXPORTABLE))
        return Problem(
            f"the architecture {architecture or '(none named in config.json)'} cannot be exported",
            f"Take a model of one of these: {names}",
        )
    return (
        _sizes_problem(config)
        or _rope_problem(config)
        or _head_problem(config, architecture)
        or _activation_problem(config, architecture)
        or _window_problem(config)
    )


def head_size(config: Mapping[str, Any]) -> int:
    """Return the size of an attention head."""
    size = config.get("head_dim")
    return int(size) if size is not None else int(config["hidden_size"]) // int(config["num_attention_heads"])


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _sizes_problem(config: Mapping[str, Any]) -> Problem | None:
    sizes = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
        "max_position_embeddings",
    )
    for name in sizes:
        if not _is_count(config.get(name)):
            return Problem(f"{name} is {config.get(name)!r}", f"Write a whole number above 0 for {name} in config.json")
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    if heads % groups:
        return Problem(
            f"num_attention_heads is {heads}, which num_key_value_heads {groups} does not divide",
            "Use a model whose heads share keys evenly",
        )
    return None


def _rope_problem(config: Mapping[str, Any]) -> Problem | None:
    rope = config.get("rope_parameters")
    if not isinstance(rope, Mapping) or "rope_type" not in rope:
        return Problem("config.json has no rope_parameters that are the same for all layers", _other_model())
    kind = rope["rope_type"]
    if kind not in ROPE_TYPES:
        return Problem(
            f"rope_parameters.rope_type is {kind!r}", f"Use a model with one of these: {', '.join(ROPE_TYPES)}"
        )
    original = rope.get("original_max_position_embeddings")
    if kind == "longrope" and not _is_count(original):
        return Problem(
            f"rope_parameters.original_max_position_embeddings is {original!r}",
            "Write a whole number above 0 for it in config.json",
        )
    return None


def _head_problem(config: Mapping[str, Any], architecture: str) -> Problem | None:
    size = head_size(config)
    if size < _MULTIPLE or size % _MULTIPLE:
        return Problem(
            f"an attention head has {size} dimensions (head_dim, or hidden_size / num_attention_heads), "
            f"and ONNX Runtime computes only multiples of {_MULTIPLE}",
            f"Use a model whose heads have a multiple of {_MULTIPLE} dimensions",
        )
    rope = config["rope_parameters"]
    share = rope.get("partial_rotary_factor", 1.0)
    if not isinstance(share, int | float) or not 0 < share <= 1 or (share != 1 and architecture not in _PARTIAL):
        return Problem(
            f"partial_rotary_factor is {share!r}",
            f"Use a model that rotates whole heads, or one of these: {', '.join(_PARTIAL)}",
        )
    rotary = int(size * share)
    if rotary == 0 or rotary % _MULTIPLE:
        return Problem(
            f"partial_rotary_factor {share} rotates {rotary} of a head's {size} dimensions, "
            f"and ONNX Runtime rotates only multiples of {_MULTIPLE}",
            f"Use a model that rotates a multiple of {_MULTIPLE} dimensions",
        )
    for name in ("short_factor", "long_factor") if rope["rope_type"] == "longrope" else ():
        factors = rope.get(name)
        if not isinstance(factors, list | tuple) or len(factors) != rotary // 2:
            found = f"{len(factors)} numbers" if isinstance(factors, list | tuple) else repr(factors)
            return Problem(
                f"rope_parameters.{name} has {found}, and the model rotates {rotary // 2} pairs of dimensions",
                f"Correct {name} in config.json",
            )
    return None


def _activation_problem(config: Mapping[str, Any], architecture: str) -> Problem | None:
    field = _ACTIVATION_FIELDS.get(architecture, "hidden_act")
    if config.get(field) not in ACTIVATIONS:
        return Problem(f"{field} is {config.get(field)!r}", f"Use a model with one of these: {', '.join(ACTIVATIONS)}")
    return None


def _window_problem(config: Mapping[str, Any]) -> Problem | None:
    window, types = config.get("sliding_window"), config.get("layer_types")
    if window is not None and not _is_count(window):
        return Problem(f"sliding_window is {window!r}", "Write a whole number above 0, or null for none")
    if types is None:
        return None
    unknown = sorted({str(name) for name in types} - set(_LAYER_TYPES))
    if unknown or len(types) != config["num_hidden_layers"]:
        problem = f"layer_types has {', '.join(unknown) or f'{len(types)} entries'}"
        return Problem(problem, f"Name {' or '.join(_LAYER_TYPES)} for each of the model's layers")
    if window is None and "sliding_attention" in types:
        return Problem("layer_types has sliding_attention, but sliding_window is null", "Write sliding_window")
    return None


def _other_model() -> str:
    return f"Take a model of one of these: {', '.join(sorted(EXPORTABLE))}"
