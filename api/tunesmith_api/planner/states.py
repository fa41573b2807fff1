"""What a training process holds whatever the batch: weights, gradients, the optimizer's state, and buffers."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith_api.planner.formats import FP32, formats_of
from tunesmith_api.planner.setup import Setup
from tunesmith_api.planner.shape import ModelShape

BUCKET = 20_000_000
"""Elements in one reduce or gather of DeepSpeed (train/distributed/zero.py)."""

PERSISTENT = 100_000
"""Parameters of fewer elements are not partitioned by ZeRO 3 (train/distributed/zero.py)."""

MOST_LIVE = 1_000_000_000
"""Elements that ZeRO 3 may have gathered at once (train/distributed/zero.py)."""


@dataclass(frozen=True)
class TrainingStates:
    """Bytes of one process.

    Attributes:
        weights: The weights in the model, a share of them under ZeRO 3.
        optimizer: The moments, and under DeepSpeed the fp32 copy of the weights.
        gradient_bytes: Bytes of a gradient.
        gradients_stay: Whether a new gradient stays where it is made.
        kept_gradients: Gradients that are there during the whole backward pass.
        all_gradients: Gradients at the step of the optimizer, over the kept ones.
        buffers: Buffers that are there all the time.
        reduction: Further ones at their largest in the backward pass.
        update: Further ones at their largest in the step of the optimizer.
    """

    weights: int
    optimizer: int
    gradient_bytes: int
    gradients_stay: bool
    kept_gradients: int
    all_gradients: int
    buffers: int
    reduction: int
    update: int


def training_states(shape: ModelShape, setup: Setup) -> TrainingStates:
    """Return what a process holds whatever the batch.

    Args:
        shape: The model.
        setup: How it is trained.
    """
    return _partitioned(shape, setup) if setup.zero_stage else _whole(shape, setup)


def frozen_bytes(shape: ModelShape, setup: Setup) -> int:
    """Return the bytes of the frozen weights, which may be stored quantized; 0 where all are trained."""
    if not setup.info.trains_adapter:
        return 0
    whole = formats_of(setup).frozen
    quantized = setup.info.quantized_weight_bytes
    if quantized is None:
        return int(shape.parameters * whole)
    linear = shape.layers * sum(linear.weights for linear in shape.linears)
    return int(linear * quantized + (shape.parameters - linear) * whole)


def _whole(shape: ModelShape, setup: Setup) -> TrainingStates:
    """Plain torch, and DDP, whose buckets hold all gradients once more (`gradient_as_bucket_view` is off)."""
    trained = setup.trained_parameters(shape)
    formats = formats_of(setup)
    frozen = frozen_bytes(shape, setup)
    accumulates = setup.gradient_accumulation_steps > 1
    gradients = int(trained * setup.info.gradient_bytes)
    return TrainingStates(
        weights=frozen + trained * formats.trained,
        optimizer=int(trained * setup.info.optimizer_bytes),
        gradient_bytes=int(setup.info.gradient_bytes),
        gradients_stay=not accumulates,
        kept_gradients=gradients if accumulates else 0,
        all_gradients=0 if accumulates else gradients,
        buffers=trained * FP32 if setup.processes > 1 else 0,
        reduction=0,
        update=0,
    )


def _partitioned(shape: ModelShape, setup: Setup) -> TrainingStates:
    """DeepSpeed ZeRO."""
    trained, ranks, stage = setup.trained_parameters(shape), setup.processes, setup.zero_stage
    formats = formats_of(setup)
    frozen = frozen_bytes(shape, setup)
    share = -(-trained // ranks)
    bucket = BUCKET * formats.trained * (2 if setup.gpu and ranks > 1 else 1)
    weights = frozen + trained * formats.trained
    if stage == 3:
        weights = weights // ranks + min(shape.parameters, MOST_LIVE) * formats.trained
    gradients = trained if stage == 1 else share
    return TrainingStates(
        weights=weights,
        optimizer=int(share * (FP32 + setup.info.optimizer_bytes)),
        gradient_bytes=formats.trained,
        gradients_stay=False,
        kept_gradients=gradients * formats.trained,
        all_gradients=0,
        buffers=bucket,
        reduction=min(BUCKET, trained) * formats.trained,
        update=share * FP32,
    )
