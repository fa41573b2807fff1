"""Translates running out of memory into a StageError with a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tunesmith_api.advice import another_way, less_memory
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.train.planned import planned

# Messages of RuntimeErrors: from the CPU's allocator, and from CUDA libraries outside torch's allocator.
_NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|Cannot allocate memory|CUDA error: out of memory|_STATUS_ALLOC_FAILED",
    re.I,
)


def out_of_memory(config: JobConfig, work: WorkFolder, detail: str) -> StageError:
    """Return the error for training that needs more memory than there is."""
    plan = planned(work)
    remedy = ", or ".join([*less_memory(config.spec, "spec.", plan), *another_way(config.spec, "spec.", plan)])
    return StageError(Reason.OUT_OF_MEMORY, f"out of memory: {detail}", remedy[0].upper() + remedy[1:])


@contextmanager
def translate_oom(config: JobConfig, work: WorkFolder) -> Iterator[None]:
    """Translate running out of memory into a StageError that says what to do."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise out_of_memory(config, work, str(error).split("\n")[0][:300]) from error
    except MemoryError as error:
        raise out_of_memory(config, work, "the machine has no memory left") from error
    except RuntimeError as error:
        if not _NO_MEMORY.search(str(error)):
            raise
        raise out_of_memory(config, work, str(error).split("\n")[0][:300]) from error
