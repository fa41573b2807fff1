"""A forward pass and the backward pass of a layer, as the kinds of adapters see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tunesmith_api.planner.formats import FP32, Formats
from tunesmith_api.planner.shape import Linear
from tunesmith_api.planner.tape import Tape
from tunesmith_api.spec import AdapterSpec

_SCALES = FP32 / 64  # bytes of a weight for the scales of blocks of 64, while nf4 weights are dequantised


@dataclass(frozen=True)
class Pass:
    """One forward pass in one process.

    Attributes:
        tokens: Its tokens, with padding.
        spec: The adapter's settings.
        formats: The number formats.
        quantized: Whether the frozen weights of linear layers are stored in nf4.
        gpu: Whether it runs on a GPU.
    """

    tokens: int
    spec: AdapterSpec
    formats: Formats
    quantized: bool
    gpu: bool

    def dequantized(self, linear: Linear) -> int:
        """Return the bytes of a layer's weight while a product with it is computed; 0 where it is not quantized."""
        return int(linear.weights * (self.formats.product + _SCALES)) if self.quantized else 0


class Backward(Protocol):
    """The backward pass of a layer, as a kind of adapter sees it."""

    tape: Tape

    def gradient(self, parameters: int) -> None:
        """Make the gradient of trained weights."""
