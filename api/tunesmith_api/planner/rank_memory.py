"""The memory of one process that trains: of its GPU, or on the CPU of the process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from tunesmith_api.planner.activations import layer_activations, layer_input, norm_input
from tunesmith_api.planner.backward import layer_backward
from tunesmith_api.planner.formats import FP32, formats_of
from tunesmith_api.planner.setup import Setup
from tunesmith_api.planner.shape import ModelShape
from tunesmith_api.planner.states import TrainingStates, training_states

_MIB = 2**20
CUDA_CONTEXT = 700 * _MIB
"""Bytes that a process takes on a GPU before it allocates anything: CUDA's context, NCCL's and cuBLAS's buffers."""

FRAGMENTATION = 0.06
"""Share of what is allocated that lies between the blocks that are in use."""


@dataclass(frozen=True)
class RankMemory:
    """The memory of one process at its peak, in bytes, by what takes it.

    Attributes:
        phase: Part of a step in which the peak is.
        weights: The model's weights, frozen and trained.
        gradients: The gradients of the trained weights.
        optimizer: The optimizer's moments, and under DeepSpeed its fp32 copy of the weights.
        activations: What the forward pass has kept, and the gradients of activations.
        logits: The logits and their loss.
        buffers: Buffers of DDP or DeepSpeed.
        reserve: What is kept free: the CUDA context and fragmentation.
    """

    phase: str
    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    buffers: int
    reserve: int

    @property
    def allocated(self) -> int:
        """Bytes that the allocator has given out at the peak."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.buffers

    @property
    def total(self) -> int:
        """Bytes with the reserve."""
        return self.allocated + self.reserve


@lru_cache(maxsize=4096)
def rank_memory(shape: ModelShape, setup: Setup) -> RankMemory:
    """Return the memory of one process that trains a model, at the peak of a step.

    Args:
        shape: The model.
        setup: How it is trained.
    """
    return max(_phases(shape, setup), key=lambda phase: phase.allocated)


def _phases(shape: ModelShape, setup: Setup) -> Iterator[RankMemory]:
    """Return the memory in each part of the second step, the first that has all of the optimizer's state."""
    states = training_states(shape, setup)
    layers, adapts = shape.layers, setup.info.trains_adapter
    kept = layer_activations(shape, setup).total
    backward = layer_backward(shape, setup, gradients_stay=states.gradients_stay)
    first, later = _below(shape, setup)
    head = 0 if adapts else states.gradient_bytes * shape.embedding
    if not states.gradients_stay:
        head = 0
    logits, loss = _logits(shape, setup)
    whole = later * layers + first if setup.gradient_checkpointing else (kept + later) * layers + first
    yield _memory(setup, states, "loss", activations=whole, logits=loss)
    made = _head_gradient(shape, setup)
    yield _memory(setup, states, "output layer", activations=whole, logits=logits, gradients=made)
    # The layers go from the last to the first: activations of those below are there, and gradients of those above.
    for below in {layers - 1, 0}:
        rest = (later if setup.gradient_checkpointing else kept + later) * below + first
        grown = head + (layers - 1 - below) * backward.gradients
        activations = rest + later + backward.peak + layer_input(shape, setup)
        yield _memory(setup, states, "backward", activations=activations, gradients=grown, buffers=states.reduction)
    yield _memory(setup, states, "optimizer", gradients=states.all_gradients, buffers=states.update)


def _below(shape: ModelShape, setup: Setup) -> tuple[int, int]:
    """Return what is kept below the first layer, and beside what each layer keeps itself, for its successor."""
    if setup.gradient_checkpointing:
        return norm_input(shape, setup), layer_input(shape, setup)
    # Without checkpointing nothing below the first adapter has a gradient, so the first norm keeps nothing.
    return 0 if setup.info.trains_adapter else norm_input(shape, setup), norm_input(shape, setup)


def _head_gradient(shape: ModelShape, setup: Setup) -> int:
    """Return the bytes of the gradient of the output layer while it is made."""
    if setup.info.trains_adapter:
        return 0
    formats = formats_of(setup)
    return shape.embedding * (formats.trained + (formats.product if formats.autocast else 0))


def _logits(shape: ModelShape, setup: Setup) -> tuple[int, int]:
    """Return the bytes of the gradient of the logits, and those of the loss at its largest.

    The loss is computed in fp32 (models/loss.py): at its largest there are the logarithms of the softmax, the
    gradient of them, and that of the logits. Logits are computed for positions with a target only
    (data/collate.py); the last token of a row has none.
    """
    formats = formats_of(setup)
    positions = setup.micro_batch_size * setup.target_positions
    one = positions * shape.vocabulary
    head = 0
    if not setup.info.trains_adapter:  # the last norm's product, and what the output layer reads and autocast copies
        head = setup.tokens * shape.hidden * formats.residual + positions * shape.hidden * formats.product
        head += shape.embedding * formats.product if formats.autocast else 0
    return head + one * formats.product, head + 3 * FP32 * one


def _memory(
    setup: Setup,
    states: TrainingStates,
    phase: str,
    *,
    activations: int = 0,
    logits: int = 0,
    gradients: int = 0,
    buffers: int = 0,
) -> RankMemory:
    gradients += states.kept_gradients
    buffers += states.buffers
    allocated = states.weights + states.optimizer + gradients + buffers + activations + logits
    return RankMemory(
        phase=phase,
        weights=states.weights,
        gradients=gradients,
        optimizer=states.optimizer,
        activations=activations,
        logits=logits,
        buffers=buffers,
        reserve=int(FRAGMENTATION * allocated) + (CUDA_CONTEXT if setup.gpu else 0),
    )
