"""What to do when training needs more memory than there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tunesmith_api.choices.spread import largest_divisor
from tunesmith_api.methods import DEFAULT_METHOD, METHODS
from tunesmith_api.spec import TrainingJobSpec


@dataclass(frozen=True)
class MemorySettings:
    """The values of a run on which its memory depends, and its result does not.

    Attributes:
        micro_batch_size: Rows of one forward pass in one process.
        gradient_checkpointing: Whether activations are recomputed in the backward pass.
    """

    micro_batch_size: int
    gradient_checkpointing: bool

    def lowered(self, share: int) -> MemorySettings | None:
        """Return the values that need the next less memory; None if there are none.

        Args:
            share: Rows of one process in a step, which the micro-batch divides.
        """
        size = self.micro_batch_size
        if size > 1:
            return replace(self, micro_batch_size=largest_divisor(share, size // 2))
        return None if self.gradient_checkpointing else replace(self, gradient_checkpointing=True)


def less_memory(spec: TrainingJobSpec, prefix: str = "", plan: Mapping[str, Any] | None = None) -> list[str]:
    """Return the changes of a job's hyper-parameters that make training need less memory, the mildest first.

    Args:
        spec: The job.
        prefix: What the fields' paths begin with, such as `spec.`.
        plan: What is planned where the spec leaves a value open, as in a status's `plan`.
    """
    training, plan = spec.training, plan or {}
    ways = []
    if (training.micro_batch_size or plan.get("microBatchSize")) != 1:
        ways.append(f"set {prefix}training.microBatchSize: 1")
    checkpointing = training.gradient_checkpointing
    if not (plan.get("gradientCheckpointing") if checkpointing is None else checkpointing):
        ways.append(f"set {prefix}training.gradientCheckpointing: true")
    return [*ways, f"lower {prefix}training.maxLength (now {training.max_length})"]


def another_way(spec: TrainingJobSpec, prefix: str = "", plan: Mapping[str, Any] | None = None) -> list[str]:
    """Return what else makes training need less memory: another method, or sharing it among processes.

    Args:
        spec: The job.
        prefix: What the fields' paths begin with, such as `spec.`.
        plan: What is planned where the spec leaves a value open, as in a status's `plan`.
    """
    ways = []
    if not METHODS[spec.method].trains_adapter:
        ways.append(f"set {prefix}method: {DEFAULT_METHOD}")
    strategy = spec.distributed.strategy
    most = "zero3" if METHODS[spec.method].partitions_weights else "zero2"
    if ((plan or {}).get("strategy") if strategy == "auto" else strategy) != most:
        ways.append(f"set {prefix}distributed.strategy: {most} with more processes")
    return ways
