"""The methods of training: one row each, with all that follows from a method's name without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

AdapterKind = Literal["lora", "ia3", "vera", "oft", "loha"]


class AdapterSizes(Protocol):
    """The settings of an adapter that its size depends on."""

    @property
    def rank(self) -> int:
        """Rank of its matrices."""

    @property
    def block_size(self) -> int:
        """Rows of a block of a rotation."""


class LayerSizes(Protocol):
    """A linear layer that gets an adapter."""

    @property
    def name(self) -> str:
        """Its name; the last part is enough."""

    @property
    def inputs(self) -> int:
        """Features that go in."""

    @property
    def outputs(self) -> int:
        """Features that come out."""


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
        partitions_weights: Whether ZeRO 3 can partition the model's weights: not where the adapter's layers read the
            shape of a whole weight while they compute.
        adapter_settings: The fields of `spec.adapter` that have a meaning, besides `target_modules`.
        default_rank: `spec.adapter.rank` where the spec names none.
        default_alpha: `spec.adapter.alpha` where the spec names none.
        layer_parameters: Returns the number of parameters that are trained for one linear layer.
        adapter_kind: The kind of adapter that is trained, as peft names it; DoRA is a `lora`.
        is_decomposed: Whether the magnitudes of the weights are trained separately from their directions, as by DoRA.
        is_low_rank: Whether a trained weight is that of the base and the product of two small matrices, so that the
            adapter can be served beside its base.
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
    partitions_weights: bool = True
    adapter_settings: tuple[str, ...] = ()
    default_rank: int = 16
    default_alpha: float = 32
    layer_parameters: Callable[[AdapterSizes, LayerSizes], int] = lambda adapter, layer: 0
    adapter_kind: AdapterKind = "lora"
    is_decomposed: bool = False
    is_low_rank: bool = False

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


def scales_inputs(layer: str) -> bool:
    """Return whether IA3 scales the inputs of a linear layer: of the second one of a feed-forward."""
    return layer.rsplit(".", 1)[-1] == "down_proj"


@lru_cache
def block_size(wanted: int, inputs: int) -> int:
    """Return the divisor of a layer's inputs that is nearest to a wanted block size, the smaller one of two."""
    divisors = (size for size in range(1, inputs + 1) if inputs % size == 0)
    return min(divisors, key=lambda size: (abs(size - wanted), size))


def _low_rank(adapter: AdapterSizes, layer: LayerSizes) -> int:
    return adapter.rank * (layer.inputs + layer.outputs)


def _decomposed(adapter: AdapterSizes, layer: LayerSizes) -> int:
    return _low_rank(adapter, layer) + layer.outputs


def _scales(adapter: AdapterSizes, layer: LayerSizes) -> int:
    return layer.inputs if scales_inputs(layer.name) else layer.outputs


def _vectors(adapter: AdapterSizes, layer: LayerSizes) -> int:
    return adapter.rank + layer.outputs


def _rotations(adapter: AdapterSizes, layer: LayerSizes) -> int:
    size = block_size(adapter.block_size, layer.inputs)
    return layer.inputs // size * (size * (size - 1) // 2)


def _hadamard(adapter: AdapterSizes, layer: LayerSizes) -> int:
    return 2 * _low_rank(adapter, layer)


_LORA = ("rank", "alpha", "dropout", "use_rslora", "init_lora_weights", "loraplus_lr_ratio")
_NO_START = tuple(name for name in _LORA if name != "init_lora_weights")
_ADAPTER = "a small adapter is trained"
_QUANTIZED = "a small adapter is trained beside weights that are stored in 4 bits (nf4)"

register_method(
    MethodInfo("lora", _ADAPTER, True, 2e-4, adapter_settings=_LORA, layer_parameters=_low_rank, is_low_rank=True)
)
register_method(
    MethodInfo(
        "qlora",
        _QUANTIZED,
        True,
        2e-4,
        quantized_weight_bytes=NF4_BYTES,
        adapter_settings=_NO_START,
        layer_parameters=_low_rank,
        is_low_rank=True,
    )
)
register_method(
    MethodInfo(
        "dora", _ADAPTER, True, 2e-4, adapter_settings=_NO_START, layer_parameters=_decomposed, is_decomposed=True
    )
)
register_method(
    MethodInfo(
        "qdora",
        _QUANTIZED,
        True,
        2e-4,
        quantized_weight_bytes=NF4_BYTES,
        adapter_settings=_NO_START,
        layer_parameters=_decomposed,
        is_decomposed=True,
    )
)
register_method(MethodInfo("full", "all weights are trained", trains_adapter=False, default_learning_rate=2e-5))
# T-Few trains IA3 at 3e-3 (arXiv 2205.05638, section 3.3).
register_method(MethodInfo("ia3", _ADAPTER, True, 3e-3, layer_parameters=_scales, adapter_kind="ia3"))
# Rank and rate of the instruction tuning in VeRA's paper, where the rate is ten times LoRA's (arXiv 2310.11454).
register_method(
    MethodInfo(
        "vera",
        _ADAPTER,
        True,
        4e-3,
        adapter_settings=("rank", "dropout"),
        default_rank=256,
        layer_parameters=_vectors,
        adapter_kind="vera",
    )
)
register_method(
    MethodInfo(
        "oft",
        _ADAPTER,
        True,
        4e-4,
        adapter_settings=("block_size",),
        layer_parameters=_rotations,
        adapter_kind="oft",
    )
)
# Rank and alpha are peft's: the product of two factors of a rank r can have the rank r * r.
register_method(
    MethodInfo(
        "loha",
        _ADAPTER,
        True,
        4e-4,
        adapter_settings=("rank", "alpha"),
        default_rank=8,
        default_alpha=8,
        partitions_weights=False,
        layer_parameters=_hadamard,
        adapter_kind="loha",
    )
)

DPO_RATE_SHARE = 1 / 20
"""The default learning rate of `objective: dpo` as a share of the method's: 1e-6 for full as in trl, 1e-5 for lora."""

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
    summaries = dict.fromkeys(info.summary for info in METHODS.values())
    return ", or ".join(
        f"{listed([info.name for info in METHODS.values() if info.summary == summary])} ({summary})"
        for summary in summaries
    )


def describe_learning_rates() -> str:
    """Return the default learning rates, as a phrase."""
    return (
        ", ".join(
            [*_by_value("default_learning_rate", _short, "and"), f"{_short(SCRATCH_LEARNING_RATE)} on a scratch model"]
        )
        + f"; with objective dpo a {round(1 / DPO_RATE_SHARE)}th of these"
    )


def describe_defaults(setting: str) -> str:
    """Return the defaults of `rank` or `alpha` by method, as a phrase."""
    return ", ".join(_by_value(f"default_{setting}", lambda value: f"{value:g}", "and", setting))


def low_rank_methods() -> list[str]:
    """Return the names of the methods whose adapter can be served beside its base."""
    return [info.name for info in METHODS.values() if info.is_low_rank]


def methods_with(setting: str) -> list[str]:
    """Return the names of the adapter methods in which a field of `spec.adapter` has a meaning."""
    return [info.name for info in METHODS.values() if setting in info.adapter_settings]


def methods_without(setting: str) -> list[str]:
    """Return the names of the adapter methods in which a field of `spec.adapter` has no meaning."""
    return [name for name in adapter_methods() if setting not in METHODS[name].adapter_settings]


def listed(names: list[str], word: str = "or") -> str:
    """Return names as a phrase: `a`, `a or b`, `a, b or c`."""
    return f" {word} ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])


def _by_value(field: str, shown: Callable[[float], str], word: str, setting: str = "") -> list[str]:
    """Return `VALUE for METHODS` for each value of a field."""
    rows = [info for info in METHODS.values() if not setting or setting in info.adapter_settings]
    values = dict.fromkeys(getattr(info, field) for info in rows)
    return [
        f"{shown(value)} for {listed([info.name for info in rows if getattr(info, field) == value], word)}"
        for value in values
    ]


def _short(rate: float) -> str:
    return f"{rate:.0e}".replace("e-0", "e-")
