"""Models whose weights stay in bf16 or fp16 in memory, and that compute in fp32 all the same.

A weight is widened where it is used and dropped again, a part at a time, so a model of any size takes no more memory
than its weights as they are stored. Widening is exact: the results are those of a copy of the whole model in fp32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

_PART = 1 << 24
"""Values of a weight that are widened at a time: 64 MiB in fp32."""


class WideLinear(nn.Linear):
    """A linear layer that multiplies in its input's number format."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - nn.Linear's name
        """Return the product, in the input's number format."""
        if input.dtype == self.weight.dtype:
            return super().forward(input)
        rows = max(1, _PART // self.in_features)
        bias = None if self.bias is None else self.bias.to(input.dtype)
        if rows >= self.out_features:
            return functional.linear(input, self.weight.to(input.dtype), bias)
        result = input.new_empty(*input.shape[:-1], self.out_features)
        for start in range(0, self.out_features, rows):
            part = slice(start, start + rows)
            some = None if bias is None else bias[part]
            result[..., part] = functional.linear(input, self.weight[part].to(input.dtype), some)
        return result


class WideEmbedding(nn.Embedding):
    """An embedding that returns its rows in a chosen number format, in which all layers after it then compute.

    Attributes:
        arithmetic: The number format.
    """

    arithmetic: torch.dtype
    weight: nn.Parameter
    padding_idx: int | None

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - nn.Embedding's name
        """Return the rows of token ids."""
        if self.arithmetic == self.weight.dtype:
            return super().forward(input)
        whole, padding = self.weight, self.padding_idx
        # Only the rows that are needed. The class below may look at the weight's number format, as Gemma's does.
        used, places = torch.unique(input, return_inverse=True)
        self.weight = nn.Parameter(whole[used].to(self.arithmetic), requires_grad=False)
        self.padding_idx = None
        try:
            return super().forward(places)
        finally:
            self.weight, self.padding_idx = whole, padding


def can_widen(model: Any) -> bool:  # noqa: ANN401 - a transformers model
    """Return whether all of a model's layers can compute in fp32 with weights in another number format."""
    own = [module for module in model.modules() if list(module.parameters(recurse=False))]
    return any(isinstance(module, nn.Embedding) for module in own) and all(
        isinstance(module, nn.Embedding) or type(module) is nn.Linear or type(module).__name__.endswith("RMSNorm")
        for module in own
    )


def widen(model: Any, arithmetic: torch.dtype) -> None:  # noqa: ANN401
    """Let a model compute in a chosen number format, whatever that of its weights.

    Args:
        model: A model for which `can_widen` holds; it is changed.
        arithmetic: Number format of the computation.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            kind = type(module)
            bases = (WideEmbedding,) if kind is nn.Embedding else (WideEmbedding, kind)
            module.__class__ = type(f"Wide{kind.__name__}", bases, {})
            module.arithmetic = arithmetic
        elif type(module) is nn.Linear:
            module.__class__ = WideLinear


def arithmetic_of(model: Any) -> str:  # noqa: ANN401
    """Return the number format that a model computes in, as torch names it."""
    for module in model.modules():
        if isinstance(module, WideEmbedding):
            return str(module.arithmetic).removeprefix("torch.")
    return str(model.dtype).removeprefix("torch.")


@contextmanager
def in_float32(model: Any) -> Iterator[None]:  # noqa: ANN401
    """Let a model from `load_model` compute in fp32 within the context."""
    embeddings = [module for module in model.modules() if isinstance(module, WideEmbedding)]
    before = [module.arithmetic for module in embeddings]
    for module in embeddings:
        module.arithmetic = torch.float32
    try:
        yield
    finally:
        for module, arithmetic in zip(embeddings, before, strict=True):
            module.arithmetic = arithmetic


def fast_arithmetic(stored: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the number format in which weights are multiplied fastest: bf16 where the hardware has it, else fp32."""
    if stored is not torch.bfloat16:
        return torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if any(able.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16")) else torch.float32
