"""The memory of plain torch and of DDP, phase by phase."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith_api.planner.formats import FP32
from tunesmith_api.planner.phase import Phase, frozen_bytes
from tunesmith_api.planner.setup import Setup
from tunesmith_api.planner.shape import ModelShape
from tunesmith_api.planner.step import step_of

BROADCAST = 2 * 250 * 2**20
"""Bytes of weights that DDP copies to send them from the first process to the others: two buckets at a time."""


def plain_phases(shape: ModelShape, setup: Setup) -> Iterator[Phase]:
    """Return the memory of one process in each part of a step with all of the optimizer's state.

    DDP's buckets hold all gradients once more, as accelerate leaves `gradient_as_bucket_view` off.

    Args:
        shape: The model.
        setup: How it is trained.
    """
    trained, formats = setup.trained_parameters(shape), setup.formats
    whole = not setup.info.trains_adapter
    accumulates = setup.gradient_accumulation_steps > 1
    per_gradient = int(setup.info.gradient_bytes)
    gradients = trained * per_gradient
    states = Phase(
        name="states",
        weights=frozen_bytes(shape, setup) + trained * formats.trained,
        gradients=gradients if accumulates else 0,
        optimizer=int(trained * setup.info.optimizer_bytes),
        buffers=trained * FP32 if setup.processes > 1 else 0,
    )
    if setup.processes > 1:
        yield Phase("start", weights=states.weights, buffers=min(states.weights, BROADCAST))
    step = step_of(shape, setup, gradients_stay=not accumulates)
    yield states.plus("forward", activations=step.forward_peak)
    yield states.plus("loss", activations=step.forward, logits=step.loss, gradients=step.head_gradients)
    made = shape.embedding * (formats.trained + (formats.product if formats.autocast else 0)) if whole else 0
    yield states.plus(
        "output layer", activations=step.forward, logits=step.logits, gradients=made + step.head_gradients
    )
    # The layers go from the last to the first: activations of those below are there, and gradients of those above.
    head = shape.embedding * per_gradient if whole and not accumulates else 0
    for below in {shape.layers - 1, 0}:
        grown = head + (shape.layers - 1 - below) * step.layer_gradients
        yield states.plus("backward", activations=step.backward(below), gradients=grown)
    # The embedding's gradient is made as a whole, also where it is added to another one: in place to that of an earlier
    # forward pass, and into a third to that of a tied output layer.
    added = shape.embedding * per_gradient * (2 if shape.tied else accumulates) if whole else 0
    yield states.plus("optimizer", gradients=added + (0 if accumulates else gradients))
