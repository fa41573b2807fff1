"""What a step shows besides its loss, over all processes."""

from __future__ import annotations

import torch

from tunesmith_trainer.tasks.training import TaskTraining


def step_values(task: TaskTraining, device: torch.device, prefix: str = "") -> dict[str, float]:
    """Return the means of the task's `step_values` over the rows since the last call. A collective operation.

    Args:
        task: The task.
        device: Where its numbers are.
        prefix: What their names begin with.
    """
    if not task.step_values:
        return {}
    sums = task.take_step_values()
    sums = torch.zeros(len(task.step_values) + 1, dtype=torch.float64, device=device) if sums is None else sums
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        torch.distributed.all_reduce(sums)
    *values, rows = sums.tolist()
    names = [f"{prefix}{name[:1].upper()}{name[1:]}" if prefix else name for name in task.step_values]
    return {name: value / rows for name, value in zip(names, values, strict=True)} if rows else {}
