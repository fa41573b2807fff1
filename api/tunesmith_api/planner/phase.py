"""The memory of a training process in one part of a step."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tunesmith_api.planner.setup import Setup
from tunesmith_api.planner.shape import ModelShape


@dataclass(frozen=True)
class Phase:
    """Bytes of one process in one part of a step, by what takes them.

    Attributes:
        name: The part of the step.
        weights: The model's weights, frozen and trained.
        gradients: The gradients of the trained weights.
        optimizer: The optimizer's moments, and under DeepSpeed its fp32 copy of the weights.
        activations: What the forward pass has kept, and the gradients of activations.
        logits: The logits and their loss.
        buffers: Buffers of DDP or DeepSpeed.
        untouched: The part of the buffers that nothing is written to: on the CPU it takes no memory.
        gathered: The part of the weights that is gathered anew in each step.
        collective: Most bytes that are gathered at once, of which gloo makes a copy of its own on the CPU.
        host: Bytes in the machine's memory instead of the GPU's.
    """

    name: str
    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    logits: int = 0
    buffers: int = 0
    untouched: int = 0
    gathered: int = 0
    collective: int = 0
    host: int = 0

    @property
    def allocated(self) -> int:
        """The sum: bytes that the allocator has given out."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.buffers

    def gathering(self, untouched: int, *, gathered: int, collective: int) -> Phase:
        """Return the same with what is gathered anew in each step, and what is not written to."""
        return replace(self, untouched=untouched, gathered=gathered, collective=collective)

    def plus(
        self,
        name: str,
        *,
        weights: float = 0,
        gradients: float = 0,
        activations: float = 0,
        logits: float = 0,
        buffers: float = 0,
        untouched: int = 0,
    ) -> Phase:
        """Return a part of a step that has this and more."""
        return replace(
            self,
            name=name,
            weights=self.weights + int(weights),
            gradients=self.gradients + int(gradients),
            activations=self.activations + int(activations),
            logits=self.logits + int(logits),
            buffers=self.buffers + int(buffers),
            untouched=self.untouched + untouched,
        )


def frozen_bytes(shape: ModelShape, setup: Setup) -> int:
    """Return the bytes of the frozen weights, which may be stored quantized; 0 where all are trained."""
    if not setup.info.trains_adapter:
        return 0
    linears = shape.layers * sum(linear.weights for linear in shape.linears)
    stored = int(linears * setup.stored_linear + (shape.parameters - linears) * setup.formats.frozen)
    return stored + whole_frozen_bytes(shape, setup)


def whole_frozen_bytes(shape: ModelShape, setup: Setup) -> int:
    """Return the bytes of frozen tensors that are no parameters, which each process has as a whole.

    These are the scales of quantized weights, and what an adapter brings along.
    """
    if not setup.info.trains_adapter:
        return 0
    linears = shape.layers * sum(linear.weights for linear in shape.linears)
    buffers = setup.kind.buffers(shape, setup.forward_pass.spec) * setup.formats.trained
    return int(linears * setup.scale_bytes) + buffers
