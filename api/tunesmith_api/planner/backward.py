"""The backward pass of one decoder layer: what it takes and gives back, step by step, and so its peak.

The order is autograd's: of the operations that can run, the one that ran last in the forward pass runs first. What an
operation has kept is freed as soon as it is done.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith_api.planner.activations import is_read, layer_activations
from tunesmith_api.planner.formats import FP32, Formats
from tunesmith_api.planner.setup import Setup
from tunesmith_api.planner.shape import Linear, ModelShape
from tunesmith_api.planner.tape import Tape


@dataclass(frozen=True)
class LayerBackward:
    """The backward pass of one layer.

    Attributes:
        peak: Most bytes over what was there before it, with what the layer keeps.
        gradients: Bytes of gradients that stay afterwards.
    """

    peak: int
    gradients: int


def layer_backward(shape: ModelShape, setup: Setup, *, gradients_stay: bool) -> LayerBackward:
    """Return the memory of the backward pass of one layer.

    Args:
        shape: The model.
        setup: How it is trained.
        gradients_stay: Whether new gradients stay where they are made. They do not where they are added to those of an
            earlier forward pass, or copied into a bucket of DeepSpeed.
    """
    step = _Step(shape, setup, gradients_stay=gradients_stay)
    step.feed_forward()
    step.attention()
    return LayerBackward(step.tape.peak, step.gradients)


class _Step:
    """Runs the backward pass of a layer on a tape that begins with all that the layer keeps."""

    def __init__(self, shape: ModelShape, setup: Setup, *, gradients_stay: bool) -> None:
        self.shape, self.setup = shape, setup
        self.formats: Formats = setup.formats
        self.kept = layer_activations(shape, setup)
        self.gradients_stay = gradients_stay
        self.gradients = 0
        self.hidden = setup.tokens * shape.hidden
        self.tape = Tape(self.kept.total, self.kept.total)

    def feed_forward(self) -> None:
        product = self.formats.product
        wide = product * self.setup.tokens * self.shape.intermediate
        (down,) = self.shape.reading("product")
        self._enter_product()
        self._linear(down)
        if is_read(self.shape, self.setup, "product"):
            self.tape.give(wide)  # the product, or peft's copy of it
        self.tape.take(2 * wide)  # gradients of the activation and of up
        self.tape.give(3 * wide)  # of the product; kept: up and the activation
        self.tape.take(wide)  # of gate
        self.tape.give(2 * wide)  # of the activation; kept: gate
        self._readers("feedForward")
        self._norm()

    def attention(self) -> None:
        product, tokens = self.formats.product, self.setup.tokens
        (output,) = self.shape.reading("mixed")
        self._enter_product()
        self._linear(output)
        query, key = product * tokens * self.shape.query, product * tokens * self.shape.key
        if self.shape.computes_whole_attention:
            matrix = self.setup.batch_sequences * self.shape.heads * self.setup.length**2
            self.tape.pass_by(3 * FP32 * matrix)
        self.tape.take(query + 2 * key)
        self.tape.give(self.kept.attention + query)
        self.tape.pass_by(3 * query)  # the rotation's own
        self._readers("attention")
        self._norm()

    def _readers(self, place: str) -> None:
        """Run the linear layers that read one norm. The gradients of what they read are added up in place."""
        for index, linear in enumerate(reversed([x for x in self.shape.linears if x.place == place])):
            self._linear(linear)
            self.tape.give(self.formats.product * self.setup.tokens * linear.outputs)
            if index:
                self.tape.give(self.formats.residual * self.hidden)

    def _enter_product(self) -> None:
        """Convert the gradient of the hidden states for a product."""
        if self.formats.residual != self.formats.product:
            self.tape.take(self.formats.product * self.hidden)

    def _norm(self) -> None:
        self.tape.pass_by(4 * FP32 * self.hidden)

    def _linear(self, linear: Linear) -> None:
        """Run a linear layer; the gradient of what it reads stays."""
        setup, formats, tape = self.setup, self.formats, self.tape
        if setup.adapts(linear):
            setup.kind.backward(linear, setup.forward_pass, self)
            return
        inputs = setup.tokens * linear.inputs
        if not setup.info.trains_adapter:
            self.gradient(linear.parameters)
        tape.take(formats.product * inputs)
        tape.pass_by(setup.forward_pass.dequantized(linear))
        if formats.residual != formats.product and linear.place in ("attention", "feedForward"):
            tape.take((formats.residual - formats.product) * inputs)

    def gradient(self, parameters: int) -> None:
        """Make the gradient of weights; under autocast in bf16, then converted to fp32."""
        size = self.formats.trained * parameters
        if self.formats.autocast:
            self.tape.take(self.formats.product * parameters)
        self.tape.take(size)
        if self.formats.autocast:
            self.tape.give(self.formats.product * parameters)
        if self.gradients_stay:
            self.gradients += size
        else:
            self.tape.give(size)
