"""The memory of one process that trains: of the GPU, or on the CPU of the process."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith_api.planner.setup import Setup
from tunesmith_api.planner.shape import ModelShape

BUCKET = 20_000_000
"""Elements in one reduce or gather of DeepSpeed (train/distributed/zero.py)."""

_MIB = 2**20
_DDP_BUCKET = 25 * _MIB
_CUDA_CONTEXT = 700 * _MIB
_FRAGMENTATION = 0.06


@dataclass(frozen=True)
class RankMemory:
    """The memory of one process at its peak, in bytes, by what takes it.

    Attributes:
        weights: The model's weights, frozen and trained, and copies of them to compute with.
        gradients: The gradients of the trained weights.
        optimizer: The optimizer's moments, and under DeepSpeed its fp32 copy of the weights.
        activations: What the forward pass keeps for the backward pass, and what that takes itself.
        logits: The logits and their loss.
        buffers: Buffers of DDP or DeepSpeed.
        reserve: What is kept free: the CUDA context and fragmentation.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    buffers: int
    reserve: int

    @property
    def allocated(self) -> int:
        """Bytes that the allocator hands out at the peak."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.buffers

    @property
    def total(self) -> int:
        """Bytes with the reserve."""
        return self.allocated + self.reserve


def rank_memory(shape: ModelShape, setup: Setup) -> RankMemory:
    """Return the memory of one process that trains a model, at the peak of a step.

    Args:
        shape: The model.
        setup: How it is trained.
    """
    trained = setup.trained_parameters(shape)
    frozen = shape.parameters if setup.info.trains_adapter else 0
    share = setup.processes
    stage = setup.zero_stage
    compute = 2 if setup.precision == "bf16" else 4
    mixed = stage > 0 and compute == 2  # DeepSpeed trains in bf16 beside an fp32 copy
    frozen_bytes = frozen * (setup.info.frozen_weight_bytes if compute == 2 else 4)
    weights = frozen_bytes + trained * (2 if mixed else setup.info.trained_weight_bytes)
    if stage == 3:
        weights = weights / share + min(2 * shape.layer_parameters + shape.embedding, shape.parameters) * compute
    elif compute == 2 and not mixed and not frozen:
        weights += 2 * shape.matrix_parameters  # autocast keeps bf16 copies
    gradients = trained * (2 if mixed else setup.info.gradient_bytes) / (share if stage >= 2 else 1)
    optimizer = trained * (setup.info.optimizer_bytes + (4 if stage else 0)) / (share if stage else 1)
    activations = _activations(shape, setup, compute)
    logits = 3 * setup.tokens * shape.vocabulary * 4
    buffers = 2 * BUCKET * 4 if stage else (min(_DDP_BUCKET, trained * 4) + trained * 4 if share > 1 else 0)
    allocated = weights + gradients + optimizer + activations + logits + buffers
    return RankMemory(
        weights=int(weights),
        gradients=int(gradients),
        optimizer=int(optimizer),
        activations=activations,
        logits=logits,
        buffers=int(buffers),
        reserve=int(_FRAGMENTATION * allocated) + (_CUDA_CONTEXT if setup.gpu else 0),
    )


def _activations(shape: ModelShape, setup: Setup, compute: int) -> int:
    """Return the bytes that the forward pass keeps."""
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    widths = 2 * shape.hidden + 2 * shape.hidden + 2 * query + 2 * key + 4 * shape.intermediate
    if not setup.info.trains_adapter:
        widths += 2 * shape.hidden
    if setup.method == "dora":
        widths += 2 * sum(linear.outputs for linear in shape.linears if setup.adapts(linear))
    layer = setup.tokens * widths * compute
    if shape.computes_whole_attention:
        layer += 3 * setup.micro_batch_size * shape.heads * setup.length**2 * compute
    if setup.gradient_checkpointing:
        return int(shape.layers * setup.tokens * shape.hidden * compute + layer)
    return int(shape.layers * layer)
