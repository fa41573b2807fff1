"""The memory of DeepSpeed ZeRO 1, 2 and 3, phase by phase, with the settings of train/distributed/zero.py.

The sources are `runtime/zero/stage_1_and_2.py` and `stage3.py` of DeepSpeed 0.19.
"""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith_api.planner.formats import FP32
from tunesmith_api.planner.phase import Phase, frozen_bytes
from tunesmith_api.planner.setup import Setup
from tunesmith_api.planner.shape import ModelShape
from tunesmith_api.planner.step import step_of

BUCKET = 20_000_000
"""Elements in one reduce or gather (train/distributed/zero.py)."""

MOST_LIVE = 1_000_000_000
"""Elements that ZeRO 3 may have gathered at once (train/distributed/zero.py)."""

GROUP = 1_000_000_000
"""Elements that ZeRO 3 updates at once (DeepSpeed's `sub_group_size`)."""


def zero_phases(shape: ModelShape, setup: Setup) -> Iterator[Phase]:
    """Return the memory of one process in each part of a step with all of the optimizer's state.

    Args:
        shape: The model.
        setup: How it is trained.
    """
    if setup.zero_stage == 3:
        return _partitioned(shape, setup)
    return _gathered(shape, setup)


def _gathered(shape: ModelShape, setup: Setup) -> Iterator[Phase]:
    """ZeRO 1 and 2: whole weights, and a share of the optimizer's state.

    Gradients are copied into a bucket, which is reduced when it is full: the parts of each rank are put together for
    that, and then this rank's own are copied out. ZeRO 2 does so during the backward pass; ZeRO 1 at its end, and until
    then has all gradients. The worst rank has its own part of the gradients early: the one with the last layers.
    """
    trained, formats = setup.trained_parameters(shape), setup.formats
    share, size = -(-trained // setup.processes), formats.trained
    early = setup.zero_stage == 2
    accumulates = setup.gradient_accumulation_steps > 1
    bucket = BUCKET * size * (2 if setup.gpu else 1)
    untouched = max(0, BUCKET - trained) * size
    states = Phase(
        name="states",
        weights=frozen_bytes(shape, setup) + trained * size,
        gradients=(share if early else trained) * size if accumulates else 0,
        optimizer=int(share * (FP32 + setup.info.optimizer_bytes)),
    )
    step = step_of(shape, setup, gradients_stay=not early and not accumulates)
    yield states.plus("forward", activations=step.forward_peak)
    yield states.plus("loss", activations=step.forward, logits=step.loss)
    head = 0 if setup.info.trains_adapter else shape.embedding
    if head:  # the bucket is made for the first gradient
        made = head * size
        yield states.plus(
            "output layer",
            activations=step.forward,
            logits=step.logits,
            gradients=made,
            buffers=bucket,
            untouched=untouched,
        )
    in_layer = (trained - head * (1 if shape.tied else 2)) // shape.layers
    largest = max((linear.weights for linear in shape.linears), default=0) if head else 0
    for done in range(shape.layers):
        activations = step.backward(shape.layers - 1 - done)
        if not early:
            grown = (0 if accumulates else head + done * in_layer) * size
            yield states.plus("backward", activations=activations, gradients=grown, buffers=bucket, untouched=untouched)
            continue
        before = head + done * in_layer
        reduces = (before + in_layer) // BUCKET > before // BUCKET
        together = max(BUCKET, largest) * size if reduces else 0
        own = share * size if before >= BUCKET and not accumulates else 0
        yield states.plus(
            "backward", activations=activations, gradients=own, buffers=bucket + together, untouched=untouched
        )
    own = 0 if accumulates else share * size
    if not early:
        rest = 0 if accumulates else max(0, trained - BUCKET) * size
        yield states.plus("reduction", gradients=rest + share * size, buffers=bucket, untouched=untouched)
    elif trained > BUCKET:  # the embedding's gradient is the last, and does not go into the full bucket
        last = max(head, min(BUCKET, trained - head))
        yield states.plus("reduction", gradients=own + head * size, buffers=bucket + last * size)
    else:
        yield states.plus("reduction", buffers=bucket + trained * size, untouched=untouched)
    yield states.plus("optimizer", gradients=own + share * FP32)
    yield states.plus("saving", weights=trained * size)


def _partitioned(shape: ModelShape, setup: Setup) -> Iterator[Phase]:
    """ZeRO 3: a share of everything, and weights that are gathered when they are needed.

    As many gathered weights stay as may be live at once. They are gathered ahead into a buffer, and then copied out.
    """
    trained, formats, ranks = setup.trained_parameters(shape), setup.formats, setup.processes
    share, size = -(-trained // ranks), formats.trained
    frozen = frozen_bytes(shape, setup)
    everything = shape.parameters + (trained if frozen else 0)
    # A frozen embedding is not needed after the first layer, unless checkpointing needs a gradient of its result.
    leaves = bool(frozen) and not shape.tied and not setup.gradient_checkpointing
    stays = everything - (shape.embedding if leaves else 0)
    live = min(stays, MOST_LIVE) * formats.product
    largest = max(shape.embedding, *(linear.weights for linear in shape.linears))
    ahead = min(everything, BUCKET + largest) * formats.product
    states = Phase(
        name="states",
        weights=frozen // ranks + share * size + live,
        gradients=share * size,
        optimizer=int(share * (FP32 + setup.info.optimizer_bytes)),
        buffers=BUCKET * size,
        untouched=max(0, BUCKET - trained) * size,
        gathered=live,
        collective=ahead,
    )
    step = step_of(shape, setup, gradients_stay=False)
    yield states.plus("forward", activations=step.forward_peak, buffers=ahead)
    yield states.plus("loss", activations=step.forward, logits=step.loss)
    head = 0 if setup.info.trains_adapter else shape.embedding
    yield states.plus("output layer", activations=step.forward, logits=step.logits, gradients=head * size)
    together = max(min(BUCKET, trained), largest if head else 0) * size
    for below in {shape.layers - 1, 0}:
        yield states.plus("backward", activations=step.backward(below), buffers=together)
    # Everything is partitioned again for the optimizer, which takes the gradients to fp32 one group after the other.
    yield states.plus("optimizer", weights=-live, gradients=min(share, GROUP) * FP32)
