"""The resident memory of a process that trains on the CPU: libraries, tensors, and what the C library keeps."""

from __future__ import annotations

from functools import lru_cache

from tunesmith_api.planner.activations import forward_temporaries
from tunesmith_api.planner.formats import FP32
from tunesmith_api.planner.rank_memory import phases_of
from tunesmith_api.planner.setup import Setup
from tunesmith_api.planner.shape import ModelShape
from tunesmith_api.planner.step import logits_at_once

_MB = 10**6
TORCH = 830 * _MB
"""Bytes of a process with Python, torch, transformers and peft before it trains, measured."""

DEEPSPEED = 95 * _MB
"""Bytes that DeepSpeed adds, measured."""

_GIVEN_BACK = 32 * 2**20  # bytes; from this size on glibc maps a block by itself and unmaps it when it is freed
_KEPT = 0.75  # share of smaller blocks that are freed and taken again in each step for which the heap grows, measured
_HOLES = 6  # times that what DoRA takes for the norm of a weight is left free in the heap, measured


def libraries(setup: Setup) -> int:
    """Return the bytes of a training process without its tensors."""
    return TORCH + (DEEPSPEED if setup.zero_stage else 0)


@lru_cache(maxsize=4096)
def process_memory(shape: ModelShape, setup: Setup) -> int:
    """Return the resident memory of a training process on the CPU at its peak, without a reserve.

    What is freed and taken again in each step (activations and logits, or the weights that ZeRO 3 gathers) counts more
    than once while its blocks are small: glibc does not give their pages back, and what stays in between leaves holes.
    gloo gathers into a copy.

    Args:
        shape: The model.
        setup: How it is trained.
    """
    phases = phases_of(shape, setup)
    product = setup.formats.product
    kept = again = 0
    scatters = setup.kind.scatters or not setup.info.trains_adapter
    if scatters and setup.tokens * shape.intermediate * product < _GIVEN_BACK:
        counts = logits_at_once(shape, setup) * FP32 < _GIVEN_BACK
        kept = int(_KEPT * max(phase.activations + phase.logits * counts for phase in phases))
    if max(linear.weights for linear in shape.linears) * product < _GIVEN_BACK:
        again = max(phase.gathered for phase in phases)
        if setup.info.is_quantized:  # the largest part is the embedding, a block that is unmapped
            again = min(
                again, int(shape.layers * sum(linear.weights for linear in shape.linears) * setup.stored_linear)
            )
    temporaries = forward_temporaries(shape, setup)
    if max(linear.weights for linear in shape.linears) * FP32 < _GIVEN_BACK:  # they are several blocks
        again += _HOLES * temporaries
    kept = max(kept, again)
    kept += max(phase.collective for phase in phases)
    taken = (phase.allocated - phase.untouched + (0 if phase.name == "start" else kept) for phase in phases)
    return libraries(setup) + max(taken)
