"""The memory of DeepSpeed ZeRO 1, 2 and 3, phase by phase, with the settings of train/distributed/zero.py.

The sources are `runtime/zero/stage_1_and_2.py` and `stage3.py` of DeepSpeed 0.19.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tunesmith_api.planner.formats import FP32
from tunesmith_api.planner.offload import offloaded_optimizer, offloaded_weights
from tunesmith_api.planner.phase import Phase, frozen_bytes, whole_frozen_bytes
from tunesmith_api.planner.setup import Setup
from tunesmith_api.planner.shape import ModelShape
from tunesmith_api.planner.step import step_of


@dataclass(frozen=True)
class ZeroSettings:
    """DeepSpeed's settings, in elements.

    Attributes:
        bucket: Elements in one reduction (`reduce_bucket_size`).
        ahead: Elements that are gathered before they are needed (`stage3_prefetch_bucket_size`).
        live: Most elements that ZeRO 3 has gathered at once (`stage3_max_live_parameters`).
        group: Elements that ZeRO 3 updates at once (`sub_group_size`).
    """

    bucket: int = 20_000_000
    ahead: int = 20_000_000
    live: int = 1_000_000_000
    group: int = 1_000_000_000


SETTINGS = ZeroSettings()
"""Those of train/distributed/zero.py."""


def zero_phases(shape: ModelShape, setup: Setup, settings: ZeroSettings = SETTINGS) -> Iterator[Phase]:
    """Return the memory of one process in each part of a step with all of the optimizer's state.

    Args:
        shape: The model.
        setup: How it is trained.
        settings: DeepSpeed's settings.
    """
    if setup.zero_stage == 3:
        return _partitioned(shape, setup, settings)
    return _gathered(shape, setup, settings)


def _states(setup: Setup, host: int, *, weights: int, gradients: int, optimizer: int, buffers: int = 0) -> Phase:
    """Return what is there all the time. What is offloaded is in the same memory where there is no GPU."""
    if not setup.gpu:
        optimizer, host = optimizer + host, 0
    return Phase("states", weights=weights, gradients=gradients, optimizer=optimizer, buffers=buffers, host=host)


def _gathered(shape: ModelShape, setup: Setup, settings: ZeroSettings) -> Iterator[Phase]:
    """ZeRO 1 and 2: whole weights, and a share of the optimizer's state.

    Gradients are copied into a bucket, which is reduced when it is full: the parts of each rank are put together for
    that, and then this rank's own are copied out. ZeRO 2 does so during the backward pass; ZeRO 1 at its end, and until
    then has all gradients. The worst rank has its own part of the gradients early: the one with the last layers.
    Offloaded gradients go to the machine's memory from the bucket.
    """
    trained, formats = setup.trained_parameters(shape), setup.formats
    share, size = -(-trained // setup.processes), formats.trained
    early, offloads = setup.zero_stage == 2, setup.offload != "none"
    accumulates = setup.gradient_accumulation_steps > 1
    full = settings.bucket
    bucket = full * size * (2 if setup.gpu else 1)
    untouched = max(0, full - trained) * size
    own_share = 0 if offloads else share
    states = _states(
        setup,
        offloaded_optimizer(shape, setup),
        weights=frozen_bytes(shape, setup) + trained * size,
        gradients=(own_share if early else trained) * size if accumulates else 0,
        optimizer=int(own_share * (FP32 + setup.info.optimizer_bytes)),
        buffers=setup.largest_trained(shape) * size if offloads else 0,
    )
    step = step_of(shape, setup, gradients_stay=not early and not accumulates)
    yield states.plus("forward", activations=step.forward_peak)
    yield states.plus("loss", activations=step.forward, logits=step.loss, gradients=step.head_gradients)
    head = 0 if setup.info.trains_adapter else shape.embedding
    if head:  # the bucket is made for the first gradient
        made = head * size + step.head_gradients
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
        reduces = (before + in_layer) // full > before // full
        together = max(full, largest) * size if reduces else 0
        own = own_share * size if before >= full and not accumulates else 0
        yield states.plus(
            "backward", activations=activations, gradients=own, buffers=bucket + together, untouched=untouched
        )
    own = 0 if accumulates else own_share * size
    if not early:
        rest = 0 if accumulates else max(0, trained - full) * size
        yield states.plus("reduction", gradients=rest + own_share * size, buffers=bucket, untouched=untouched)
    elif trained > full:  # the embedding's gradient is the last, and does not go into the full bucket
        last = max(head, min(full, trained - head))
        yield states.plus("reduction", gradients=own + head * size, buffers=bucket + last * size)
    else:
        yield states.plus("reduction", buffers=bucket + trained * size, untouched=untouched)
    yield states.plus("optimizer", gradients=own + own_share * FP32)
    # Weights are saved one after the other; an adapter's are held together.
    yield states.plus("saving", weights=(setup.largest_trained(shape) if head else trained) * FP32)


def _partitioned(shape: ModelShape, setup: Setup, settings: ZeroSettings) -> Iterator[Phase]:
    """ZeRO 3: a share of everything, and weights that are gathered when they are needed.

    As many gathered weights stay as may be live at once. They are gathered ahead into a buffer, and then copied out.
    Quantized weights count as the numbers that they are packed in, which have the type of training.
    """
    trained, formats, ranks = setup.trained_parameters(shape), setup.formats, setup.processes
    share, size, full = -(-trained // ranks), formats.trained, settings.bucket
    frozen, whole = frozen_bytes(shape, setup), whole_frozen_bytes(shape, setup)
    packed = setup.stored_linear / formats.product if frozen else 1.0
    linears = shape.layers * sum(linear.weights for linear in shape.linears)
    everything = shape.parameters - int(linears * (1 - packed)) + (trained if frozen else 0)
    # A frozen embedding is not needed after the first layer, unless checkpointing needs a gradient of its result.
    leaves = bool(frozen) and not shape.tied and not setup.gradient_checkpointing
    stays = everything - (shape.embedding if leaves else 0)
    live = min(stays, settings.live) * formats.product
    largest = max(shape.embedding, *(int(linear.weights * packed) for linear in shape.linears))
    ahead = min(everything, settings.ahead + largest) * formats.product
    if ranks == 1:  # nothing is gathered; weights are used where they are, or copied to the GPU one by one
        live, ahead = live if setup.gpu and setup.offload == "all" else 0, 0
    stored = 0 if setup.offload == "all" else (frozen - whole) // ranks + share * size
    share = 0 if setup.offload != "none" else share
    states = _states(
        setup,
        offloaded_optimizer(shape, setup) + offloaded_weights(shape, setup),
        weights=stored + whole + live,
        gradients=share * size,
        optimizer=int(share * (FP32 + setup.info.optimizer_bytes)),
        buffers=full * size,
    ).gathering(max(0, full - trained) * size, gathered=live, collective=ahead)
    step = step_of(shape, setup, gradients_stay=False)
    yield states.plus("forward", activations=step.forward_peak, buffers=ahead)
    yield states.plus("loss", activations=step.forward, logits=step.loss, gradients=step.head_gradients)
    head = 0 if setup.info.trains_adapter else shape.embedding
    yield states.plus(
        "output layer", activations=step.forward, logits=step.logits, gradients=head * size + step.head_gradients
    )
    together = max(min(full, trained), largest if head else 0) * size
    for below in {shape.layers - 1, 0}:
        yield states.plus("backward", activations=step.backward(below), buffers=together)
    # Everything is partitioned again for the optimizer, which takes the gradients to fp32 one group after the other.
    yield states.plus("optimizer", weights=-live, gradients=min(share, settings.group) * FP32)
