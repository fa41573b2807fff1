"""The methods of training: one row each, with all that follows from a method's name without torch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True)
class MethodInfo:
    """The facts about a method of training.

    Attributes:
        name: Value of `spec.method`.
        summary: What is trained, for descriptions of the API.
        trains_adapter: Whether a small adapter is trained beside frozen weights; `spec.adapter` then has a meaning.
        default_learning_rate: Peak learning rate where the spec names none.
        frozen_weight_bytes: Bytes of a frozen weight where bf16 is computed in; fp32 always takes 4.
        trained_weight_bytes: Bytes of a trained weight, which is kept in fp32 also where bf16 is computed in.
        gradient_bytes: Bytes of the gradient of a trained weight.
        optimizer_bytes: Bytes of the optimizer's state of a trained weight: two moments of AdamW in fp32.
        quantized_weight_bytes: Bytes of a frozen weight of a decoder layer's linear layers where they are stored
            quantized, such as `NF4_BYTES`; None where they are not.
    """

    name: str
    summary: str
    trains_adapter: bool
    default_learning_rate: float
    frozen_weight_bytes: float = 2
    trained_weight_bytes: float = 4
    gradient_bytes: float = 4
    optimizer_bytes: float = 8
    quantized_weight_bytes: float | None = None


NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in nf4: four bits, an 8-bit scale for 64 of them, and an fp32 scale for 256 scales."""

METHODS: dict[str, MethodInfo] = {}
"""The methods by name, in the order in which the API names them."""


def register_method(info: MethodInfo) -> None:
    """Add a method to `METHODS`, from where the validation of a spec takes it."""
    METHODS[info.name] = info


register_method(MethodInfo("lora", "a small adapter is trained", trains_adapter=True, default_learning_rate=2e-4))
register_method(MethodInfo("dora", "a small adapter is trained", trains_adapter=True, default_learning_rate=2e-4))
register_method(MethodInfo("full", "all weights are trained", trains_adapter=False, default_learning_rate=2e-5))

DEFAULT_METHOD = "lora"
SCRATCH_LEARNING_RATE = 1e-3
"""Default learning rate of a model at random weights, with any method."""


def adapter_methods() -> list[str]:
    """Return the names of the methods that train an adapter."""
    return [info.name for info in METHODS.values() if info.trains_adapter]


def whole_methods() -> list[str]:
    """Return the names of the methods that train the model's own weights."""
    return [info.name for info in METHODS.values() if not info.trains_adapter]


def describe_methods() -> str:
    """Return the methods and what each trains, as a phrase."""
    groups = groupby(METHODS.values(), key=lambda info: info.summary)
    return ", or ".join(f"{' or '.join(info.name for info in group)} ({summary})" for summary, group in groups)


def describe_learning_rates() -> str:
    """Return the default learning rates, as a phrase."""
    groups = groupby(METHODS.values(), key=lambda info: info.default_learning_rate)
    rates = [f"{_short(rate)} for {' and '.join(info.name for info in group)}" for rate, group in groups]
    return ", ".join([*rates, f"{_short(SCRATCH_LEARNING_RATE)} on a scratch model"])


def _short(rate: float) -> str:
    return f"{rate:.0e}".replace("e-0", "e-")
