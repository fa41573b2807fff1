"""A forward pass and the backward pass of a layer, as the kinds of adapters see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tunesmith_api.methods import MethodInfo
from tunesmith_api.planner.formats import FP32, Formats
from tunesmith_api.planner.shape import Linear
from tunesmith_api.planner.tape import Tape
from tunesmith_api.spec import AdapterSettings

_SCALES = FP32 / 64  # bytes of a weight for the scales of blocks of 64, while nf4 weights are dequantised


@dataclass(frozen=True)
class Pass:
    """One forward pass in one process.

    Attributes:
        tokens: Its tokens, with padding.
        info: The facts about the method.
        spec: The adapter's settings.
        formats: The number formats.
        gpu: Whether it runs on a GPU.
    """

    tokens: int
    info: MethodInfo
    spec: AdapterSettings
    formats: Formats
    gpu: bool

    def parameters(self, linear: Linear) -> int:
        """Return the parameters that are trained beside a linear layer."""
        return self.info.layer_parameters(self.spec, linear)

    def dequantized(self, linear: Linear) -> int:
        """Return the bytes of a layer's weight while a product with it is computed; 0 where it is not quantized."""
        return int(linear.weights * (self.formats.product + _SCALES)) if self.info.is_quantized else 0


class Backward(Protocol):
    """The backward pass of a layer, as a kind of adapter sees it."""

    tape: Tape

    def gradient(self, parameters: int) -> None:
        """Make the gradient of trained weights."""
