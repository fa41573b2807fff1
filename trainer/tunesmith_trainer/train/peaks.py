"""The largest memory of all processes and nodes of a run."""

from __future__ import annotations

import os
from typing import Any

import torch

from tunesmith_api.local.files import read_json
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.runtime.measure import attempts_file
from tunesmith_trainer.train.trainer import FineTuner

_OF_NODES = ("memory", "anonymousMemory")


def peaks_of_all(work: WorkFolder, trainer: FineTuner) -> dict[str, Any]:
    """Return `{gpuMemoryBytes?, nodes: {memory, anonymousMemory}}`, in bytes. A collective operation.

    The GPU's is what torch has allocated at most in one process. A node's is that of all its processes, as its launcher
    has measured it so far.
    """
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    node = read_json(attempts_file(work, Stage.TRAIN, int(os.environ.get("GROUP_RANK", "0")))) or {}
    values = [float(gpu), *(float(node.get(name, 0)) for name in _OF_NODES)]
    largest = torch.tensor(values, dtype=torch.float64, device=trainer.args.device)
    if trainer.args.world_size > 1:
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
    gpu, *nodes = (int(value) for value in largest.tolist())
    found = {"nodes": dict(zip(_OF_NODES, nodes, strict=True))}
    return {"gpuMemoryBytes": gpu, **found} if gpu else found
