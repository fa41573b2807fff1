"""The activations of a whole step: at the loss, and while the layers go backward."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith_api.choices.speed import LOGITS_CHUNK, LOGITS_WHOLE
from tunesmith_api.planner.activations import forward_temporaries, layer_activations, layer_input, norm_input
from tunesmith_api.planner.backward import layer_backward
from tunesmith_api.planner.formats import FP32
from tunesmith_api.planner.setup import Setup
from tunesmith_api.planner.shape import ModelShape


@dataclass(frozen=True)
class Step:
    """Bytes of a step's activations.

    Attributes:
        forward: What the forward pass has kept at its end.
        forward_peak: The same with what DoRA takes in the last layer.
        logits: The logits' gradient, and what the output layer has kept.
        loss: The logits and the loss at their largest, with the same.
        per_layer: What each layer below the current one keeps.
        below_layers: What is kept below the first layer.
        in_layer: Most that the backward pass of a layer takes, with what the layer keeps itself.
        layer_gradients: Gradients that stay when a layer has gone backward.
        head_gradients: Gradients of the output layer while the loss of one piece after the other is computed.
    """

    forward: int
    forward_peak: int
    logits: int
    loss: int
    per_layer: int
    below_layers: int
    in_layer: int
    layer_gradients: int
    head_gradients: int

    def backward(self, below: int) -> int:
        """Return the activations while a layer goes backward.

        Args:
            below: How many layers are below it.
        """
        return self.below_layers + below * self.per_layer + self.in_layer


def step_of(shape: ModelShape, setup: Setup, *, gradients_stay: bool) -> Step:
    """Return the activations of a step.

    Args:
        shape: The model.
        setup: How it is trained.
        gradients_stay: Whether new gradients stay where they are made (see `layer_backward`).
    """
    kept = layer_activations(shape, setup).total
    backward = layer_backward(shape, setup, gradients_stay=gradients_stay)
    adapts, checkpoints = setup.info.trains_adapter, setup.gradient_checkpointing
    per_layer = layer_input(shape, setup) if checkpoints else kept + norm_input(shape, setup)
    # Without checkpointing nothing below the first adapter has a gradient, so the first norm keeps nothing.
    below = 0 if adapts and not checkpoints else norm_input(shape, setup)
    logits, loss, head_gradients = _logits(shape, setup)
    temporaries = forward_temporaries(shape, setup)
    taken = max(backward.peak, kept + temporaries) if checkpoints else backward.peak
    forward = below + shape.layers * per_layer
    return Step(
        forward=forward,
        forward_peak=forward + forward_temporaries(shape, setup, recorded=not checkpoints),
        logits=logits,
        loss=loss,
        per_layer=per_layer,
        below_layers=below,
        in_layer=per_layer - (0 if checkpoints else kept) + taken + layer_input(shape, setup),
        layer_gradients=backward.gradients,
        head_gradients=head_gradients,
    )


def logits_at_once(shape: ModelShape, setup: Setup) -> int:
    """Return the number of logits that are there at a time: all, or those of a piece."""
    positions = setup.batch_sequences * setup.target_positions
    logits = positions * shape.vocabulary
    pieces = -(-logits // LOGITS_CHUNK) if shape.computes_loss and logits > LOGITS_WHOLE else 1
    return -(-positions // pieces) * shape.vocabulary


def _logits(shape: ModelShape, setup: Setup) -> tuple[int, int, int]:
    """Return the bytes of the logits' gradient, those of the loss at its largest, and gradients of the output layer.

    The loss is computed in fp32: at its largest there are the logarithms of the softmax, the gradient of them, and that
    of the logits. Logits are computed for positions with a target only (data/collate.py); the last token of a row has
    none. Many of them are computed in pieces (models/chunked_loss.py), whose gradients of the output layer are added up
    before anything else is made of them.
    """
    formats = setup.formats
    positions = setup.batch_sequences * setup.target_positions
    one = logits_at_once(shape, setup)
    head = gradients = 0
    if not setup.info.trains_adapter:  # the last norm's product, and what the output layer reads and autocast copies
        head = setup.tokens * shape.hidden * formats.residual + positions * shape.hidden * formats.product
        head += shape.embedding * formats.product if formats.autocast else 0
        gradients = shape.embedding * formats.trained if one < positions * shape.vocabulary else 0
    return head + one * formats.product, head + 3 * FP32 * one, gradients
