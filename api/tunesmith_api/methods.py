"""The methods of training: one row each, with all that follows from a method's name without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

_Key = TypeVar("_Key")


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
        is_decomposed: Whether the magnitudes of the weights are trained separately from their directions, as by DoRA.
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
    is_decomposed: bool = False

    @property
    def is_quantized(self) -> bool:
        """Whether frozen weights of linear layers are stored in 4 bits."""
        return self.quantized_weight_bytes is not None


NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in nf4: four bits, an 8-bit scale for 64 of them, and an fp32 scale for 256 scales."""

METHODS: dict[str, MethodInfo] = {}
"""The methods by name, in the order in which the API names them."""


def register_method(info: MethodInfo) -> None:
    """Add a method to `METHODS`, from where the validation of a spec takes it."""
    METHODS[info.name] = info


_ADAPTER = "a small adapter is trained"
_QUANTIZED = "a small adapter is trained beside weights that are stored in 4 bits (nf4)"

register_method(MethodInfo("lora", _ADAPTER, trains_adapter=True, default_learning_rate=2e-4))
register_method(
    MethodInfo("qlora", _QUANTIZED, trains_adapter=True, default_learning_rate=2e-4, quantized_weight_bytes=NF4_BYTES)
)
register_method(MethodInfo("dora", _ADAPTER, trains_adapter=True, default_learning_rate=2e-4, is_decomposed=True))
register_method(
    MethodInfo(
        "qdora",
        _QUANTIZED,
        trains_adapter=True,
        default_learning_rate=2e-4,
        quantized_weight_bytes=NF4_BYTES,
        is_decomposed=True,
    )
)
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
    groups = _grouped(lambda info: info.summary)
    return ", or ".join(f"{_either(names)} ({summary})" for summary, names in groups.items())


def describe_learning_rates() -> str:
    """Return the default learning rates, as a phrase."""
    groups = _grouped(lambda info: info.default_learning_rate)
    rates = [f"{_short(rate)} for {_either(names)}" for rate, names in groups.items()]
    return ", ".join([*rates, f"{_short(SCRATCH_LEARNING_RATE)} on a scratch model"])


def _grouped(key: Callable[[MethodInfo], _Key]) -> dict[_Key, list[str]]:
    """Return the methods' names by what they have in common, in the order of the first of each group."""
    groups: dict[_Key, list[str]] = {}
    for info in METHODS.values():
        groups.setdefault(key(info), []).append(info.name)
    return groups


def _either(names: list[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def _short(rate: float) -> str:
    return f"{rate:.0e}".replace("e-0", "e-")
