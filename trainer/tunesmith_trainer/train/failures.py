"""Failures of torch and its libraries, said so that they can be acted upon."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.methods import METHODS
from tunesmith_api.spec import JobConfig

# What neither torch.OutOfMemoryError nor MemoryError is made of: the CPU's allocator, and CUDA outside torch's own.
_NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|Cannot allocate memory|CUDA error: out of memory|_STATUS_ALLOC_FAILED",
    re.I,
)


def out_of_memory(config: JobConfig, detail: str) -> StageError:
    """Return the error for training that needs more memory than there is."""
    training = config.spec.training
    ways = []
    if training.micro_batch_size != 1:
        ways.append("set spec.training.microBatchSize: 1")
    if not training.gradient_checkpointing:
        ways.append("set spec.training.gradientCheckpointing: true")
    ways.append(f"lower spec.training.maxLength (now {training.max_length})")
    if not METHODS[config.spec.method].trains_adapter:
        ways.append("set spec.method: lora")
    if config.spec.distributed.strategy != "zero3":
        ways.append("set spec.distributed.strategy: zero3 with more processes")
    remedy = ", or ".join(ways)
    return StageError(Reason.OUT_OF_MEMORY, f"out of memory: {detail}", remedy[0].upper() + remedy[1:])


@contextmanager
def explained(config: JobConfig) -> Iterator[None]:
    """Turn running out of memory into a StageError that says what to do."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise out_of_memory(config, str(error).split("\n")[0][:300]) from error
    except MemoryError as error:
        raise out_of_memory(config, "the machine has no memory left") from error
    except RuntimeError as error:
        if not _NO_MEMORY.search(str(error)):
            raise
        raise out_of_memory(config, str(error).split("\n")[0][:300]) from error
