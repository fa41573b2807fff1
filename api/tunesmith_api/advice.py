"""What to do when training needs more memory than there is."""

from __future__ import annotations

from tunesmith_api.methods import DEFAULT_METHOD, METHODS
from tunesmith_api.spec import TrainingJobSpec


def less_memory(spec: TrainingJobSpec, prefix: str = "") -> list[str]:
    """Return the changes of a job's hyper-parameters that make training need less memory, the mildest first.

    Args:
        spec: The job.
        prefix: What the fields' paths begin with, such as `spec.`.
    """
    training = spec.training
    ways = []
    if training.micro_batch_size != 1:
        ways.append(f"set {prefix}training.microBatchSize: 1")
    if not training.gradient_checkpointing:
        ways.append(f"set {prefix}training.gradientCheckpointing: true")
    return [*ways, f"lower {prefix}training.maxLength (now {training.max_length})"]


def another_way(spec: TrainingJobSpec, prefix: str = "") -> list[str]:
    """Return what else makes training need less memory: another method, or sharing it among processes."""
    ways = []
    if not METHODS[spec.method].trains_adapter:
        ways.append(f"set {prefix}method: {DEFAULT_METHOD}")
    if spec.distributed.strategy != "zero3":
        ways.append(f"set {prefix}distributed.strategy: zero3 with more processes")
    return ways
