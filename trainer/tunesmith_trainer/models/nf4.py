"""Linear layers whose weights are stored in nf4 with double quantization, by bitsandbytes; its only use is here.

bitsandbytes' own layer is not used. In evaluation on a CPU it repacks its weights in place, in a layout that has no
gradients and that peft's DoRA then reads as if it were the usual one. Where rows do not fill whole blocks, its kernel
for the CPU takes the scales of other blocks.

Quantizing gives the same bits with any number of threads, and for any device since it is done on the CPU: publish
computes from the base model's files what training has used.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import bitsandbytes.functional as bnb
import torch
from torch import nn
from torch.nn import functional

BLOCK = 64  # values that share a scale
_SCALES = 256  # scales that share a scale
_PIECE = 1 << 18  # values that are quantized at a time, whole blocks
_DEQUANTIZED = (torch.float32, torch.bfloat16, torch.float16)


def can_quantize(shape: tuple[int, ...]) -> bool:
    """Return whether a matrix fills whole blocks, so that it can be stored in nf4."""
    return len(shape) == 2 and math.prod(shape) % BLOCK == 0


def dequantized_type(stored: torch.dtype) -> torch.dtype:
    """Return the number format that a weight is dequantized to: that of the base model's file, if it is a usual one."""
    return stored if stored in _DEQUANTIZED else torch.float32


class Nf4Weight:
    """A quantized weight.

    Attributes:
        packed: Two values in a byte, uint8 [values / 2].
        state: The scales, and the shape and number format of what it dequantizes to.
        shape: The weight's shape.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        """Quantize a weight.

        Args:
            weight: [out, in], on the CPU; see `can_quantize`.
        """
        values = weight.detach().reshape(-1)
        self.shape = tuple(weight.shape)
        self.packed = torch.empty(values.numel() // 2, dtype=torch.uint8)
        scales = torch.empty(values.numel() // BLOCK, dtype=torch.float32)
        for start in range(0, values.numel(), _PIECE):
            piece = values[start : start + _PIECE].float()
            packed, found = bnb.quantize_4bit(piece, blocksize=BLOCK, quant_type="nf4")
            self.packed[start // 2 : (start + piece.numel()) // 2] = packed.flatten()
            scales[start // BLOCK : (start + piece.numel()) // BLOCK] = found.absmax
        # torch's mean depends on the number of threads.
        offset = torch.tensor(math.fsum(scales.tolist()) / scales.numel(), dtype=torch.float32)
        quantized, second = bnb.quantize_blockwise(scales - offset, blocksize=_SCALES)
        self.state = bnb.QuantState(  # type: ignore[no-untyped-call]
            absmax=quantized,
            shape=torch.Size([values.numel()]),  # a flat one, so that blocks may span rows
            dtype=dequantized_type(weight.dtype),
            blocksize=BLOCK,
            code=found.code,
            quant_type="nf4",
            offset=offset,
            state2=second,
        )

    def dequantized(self) -> torch.Tensor:
        """Return the weight that is computed with, [out, in] in `dequantized_type`."""
        return dequantize(self.packed, self.state).view(self.shape)

    def digest(self) -> str:
        """Return a digest of the quantized values and scales."""
        found = hashlib.sha256()
        for part in (self.packed, self.state.absmax, self.state.offset, self.state.state2.absmax):
            found.update(part.reshape(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()


def dequantize(packed: torch.Tensor, state: Any) -> torch.Tensor:  # noqa: ANN401 - bitsandbytes' QuantState
    """Return the values of a quantized weight, flat, in the number format that its state names."""
    return bnb.dequantize_4bit(packed, state)


class Nf4Linear(nn.Linear):
    """A frozen linear layer with its weights in nf4. Gradients reach its input only.

    The packed weights are one parameter of a float type, as ZeRO 3 partitions and gathers those: its numbers mean
    nothing. They must have the type that training casts parameters to, so that a cast leaves their bits alone.

    Attributes:
        state: The scales.
    """

    def __init__(self, weight: Nf4Weight, bias: torch.Tensor | None, storage: torch.dtype) -> None:
        """Make a layer.

        Args:
            weight: The weight.
            bias: [out], or None.
            storage: Number format of the parameter.
        """
        rows, columns = weight.shape
        super().__init__(columns, rows, bias=False, device="meta")
        self.weight = nn.Parameter(weight.packed.view(storage), requires_grad=False)
        if bias is not None:
            self.bias = nn.Parameter(bias, requires_grad=False)
        self.state = weight.state

    @property
    def W_q(self) -> torch.Tensor:  # noqa: N802 - peft asks layers that have it for their weights by `dequantize`
        """The packed weights."""
        return self.weight

    def dequantize(self) -> torch.Tensor:
        """Return the weight, [out, in], in the number format that the base model's file has."""
        packed = self.weight.detach()
        if self.state.absmax.device != packed.device:
            self.state.to(packed.device)  # type: ignore[no-untyped-call]
        return dequantize(packed.reshape(-1).view(torch.uint8), self.state).view(self.out_features, self.in_features)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - nn.Linear's name
        """Return the product, in the input's number format or that of autocast."""
        kind = input.device.type
        if torch.is_autocast_enabled(kind):
            input = input.to(torch.get_autocast_dtype(kind))  # noqa: A001
        product: torch.Tensor = _Product.apply(input, self)
        return product if self.bias is None else product + self.bias.to(product.dtype)


class _Product(torch.autograd.Function):
    """Multiplies by a weight that is dequantized anew in the backward pass, instead of being kept until then."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, layer: Nf4Linear) -> torch.Tensor:  # noqa: A002, ANN401
        ctx.layer = layer
        return functional.linear(input, layer.dequantize().to(input.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:  # noqa: ANN401
        (gradient,) = gradients
        return gradient @ ctx.layer.dequantize().to(gradient.dtype), None


def packed_away(model: Any) -> int:  # noqa: ANN401 - a transformers model
    """Return how many parameters a model has beyond the numbers that its quantized weights are packed in."""
    layers = [module for module in model.modules() if isinstance(module, Nf4Linear)]
    return sum(
        layer.in_features * layer.out_features - int(getattr(layer.weight, "ds_numel", layer.weight.numel()))
        for layer in layers
    )


def dequantize_layers(model: Any) -> None:  # noqa: ANN401
    """Replace a model's quantized layers by linear ones with the weights that they compute with.

    The weights get the number format of the parameters that they were packed in.
    """
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, Nf4Linear)]
    for name, layer in layers:
        linear = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        linear.weight = nn.Parameter(layer.dequantize().to(layer.weight.dtype), requires_grad=False)
        linear.bias = layer.bias
        model.set_submodule(name, linear)
