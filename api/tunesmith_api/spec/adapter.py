"""The adapter that a method trains: what a spec says of it, and its settings with the method's defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from tunesmith_api.methods import METHODS, describe_defaults, listed, methods_with
from tunesmith_api.spec.base import SpecModel

InitLoraWeights = Literal["default", "pissa", "olora"]

DEFAULT_BLOCK_SIZE = 32
"""Rows of a block of oft, peft's default."""


def _with(setting: str) -> str:
    return f"With {listed(methods_with(setting), 'and')}."


class AdapterSpec(SpecModel):
    """The adapter of a method that trains one. Which fields have a meaning depends on the method."""

    rank: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description=f"Rank of the adapter's matrices; by default {describe_defaults('rank')}.",
        examples=[16],
    )
    alpha: float | None = Field(
        default=None,
        gt=0,
        le=4096,
        description="Scale of the adapter: its update is multiplied by alpha / rank; "
        f"by default {describe_defaults('alpha')}.",
        examples=[32],
    )
    dropout: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description=f"Dropout on the adapter's input while training; none by default. {_with('dropout')}",
        examples=[0.05],
    )
    target_modules: tuple[Annotated[str, Field(min_length=1, max_length=253)], ...] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Names of the linear layers that get an adapter (for example q_proj, v_proj); "
        "all of them by default.",
        examples=[["q_proj", "v_proj"]],
    )
    block_size: int | None = Field(
        default=None,
        ge=2,
        le=1024,
        description="Features that a block of the rotation mixes; it must divide the inputs of each layer. By default "
        f"{DEFAULT_BLOCK_SIZE}, or the nearest size that divides them. {_with('block_size')}",
        examples=[DEFAULT_BLOCK_SIZE],
    )
    use_rslora: bool | None = Field(
        default=None,
        description="Multiply the update by alpha / sqrt(rank) instead of alpha / rank (rsLoRA), with which high ranks "
        f"learn as fast as low ones; false by default. {_with('use_rslora')}",
        examples=[True],
    )
    init_lora_weights: InitLoraWeights | None = Field(
        default=None,
        description="How the matrices begin: default (a random one and zeros), pissa (the principal components of the "
        "base weights) or olora (an orthonormal basis of them). With pissa and olora the published adapter is a LoRA "
        f"of twice the rank, for the base model as it is. {_with('init_lora_weights')}",
        examples=["pissa"],
    )
    loraplus_lr_ratio: float | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="The learning rate of matrix B in times of matrix A's (LoRA+); 1 by default. "
        f"{_with('loraplus_lr_ratio')}",
        examples=[16],
    )


@dataclass(frozen=True)
class AdapterSettings:
    """An adapter's settings: what the spec says, or the defaults of the method. A field without a meaning is as here.

    Attributes:
        rank: Rank of the adapter's matrices.
        alpha: Scale of the adapter.
        dropout: Dropout on its input while training.
        target_modules: Names of the layers that get one; None for all linear layers but the output layer.
        block_size: Features that a block of a rotation mixes.
        use_rslora: Whether the update is multiplied by alpha / sqrt(rank) instead of alpha / rank.
        init_lora_weights: How the matrices begin.
        loraplus_lr_ratio: The learning rate of matrix B in times of matrix A's.
        exact_block_size: Whether the spec names the block size, which must then divide the inputs of each layer.
    """

    rank: int = 16
    alpha: float = 32
    dropout: float = 0.0
    target_modules: tuple[str, ...] | None = None
    block_size: int = DEFAULT_BLOCK_SIZE
    use_rslora: bool = False
    init_lora_weights: InitLoraWeights = "default"
    loraplus_lr_ratio: float = 1.0
    exact_block_size: bool = False

    @property
    def begins_with_base(self) -> bool:
        """Whether the matrices begin as a part of the base weights."""
        return self.init_lora_weights != "default"


def adapter_settings(method: str, adapter: AdapterSpec | None) -> AdapterSettings | None:
    """Return the settings of a method's adapter; None if it trains none.

    Args:
        method: Value of `spec.method`.
        adapter: Value of `spec.adapter`.
    """
    info = METHODS[method]
    if not info.trains_adapter:
        return None
    given = adapter or AdapterSpec()
    values = {name: value for name in AdapterSpec.model_fields if (value := getattr(given, name)) is not None}
    defaults = {"rank": info.default_rank, "alpha": info.default_alpha}
    return AdapterSettings(**{**defaults, **values}, exact_block_size=given.block_size is not None)
