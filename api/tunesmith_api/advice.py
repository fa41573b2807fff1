"""What to do when training needs more memory than there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith_api.methods import DEFAULT_METHOD, METHODS
from tunesmith_api.spec import TrainingJobSpec


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
    if ((plan or {}).get("strategy") if strategy == "auto" else strategy) != "zero3":
        ways.append(f"set {prefix}distributed.strategy: zero3 with more processes")
    return ways
