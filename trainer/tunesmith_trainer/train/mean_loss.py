"""The mean loss of a model on rows that are shared by all processes of a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch

from tunesmith_trainer.data.collate import OrderedDataset
from tunesmith_trainer.data.token_store import Example
from tunesmith_trainer.tasks.base import Task


def mean_loss(
    model: Any,  # noqa: ANN401 - a transformers model
    batch_of: Callable[[Sequence[Example]], dict[str, Any]],
    task: Task,
    rows: OrderedDataset,
    size: int,
) -> float:
    """Return the mean loss of all learned tokens, in nats. A collective operation: all ranks get the same number.

    Args:
        model: The model, ready for evaluation.
        batch_of: Returns the inputs and labels of rows, on the model's device.
        task: What the model has learned.
        rows: The rows, at least one.
        size: Rows of a forward pass.
    """
    world, rank = (int(os.environ.get(name, default)) for name, default in (("WORLD_SIZE", "1"), ("RANK", "0")))
    rounds = -(-len(rows) // (size * world))
    sums = None
    for number in range(rank, rounds * world, world):
        # Each process takes part in each round, as ZeRO 3 gathers the weights in step; a late one has no rows left.
        indices = range(number * size, min((number + 1) * size, len(rows)))
        batch = batch_of([rows[i] for i in indices] or [rows[0]])
        labels = batch.pop("labels")
        outputs, count = model(**batch), task.target_count(labels)
        if sums is None:
            sums = torch.zeros(2, dtype=torch.float64, device=count.device)
        if indices:
            loss = task.loss_sum(outputs, labels)
            sums += torch.stack([loss.double(), count.double()])
    if sums is None:
        raise ValueError("there are no rows")
    if world > 1:
        torch.distributed.all_reduce(sums)
    return float(sums[0] / sums[1].clamp(min=1))
