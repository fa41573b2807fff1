"""Translates running out of memory into a StageError with a remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.train.exhausted import out_of_memory

# Messages of RuntimeErrors: from the CPU's allocator, and from CUDA libraries outside torch's allocator.
_NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|Cannot allocate memory|CUDA error: out of memory|_STATUS_ALLOC_FAILED",
    re.I,
)


@contextmanager
def translate_oom(config: JobConfig, work: WorkFolder, when: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Translate running out of memory into a StageError that says what to do.

    Args:
        config: The job.
        work: Its work folder.
        when: Returns when it has happened, once it has; see `out_of_memory`.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise out_of_memory(config, work, str(error).split("\n")[0][:300], when()) from error
    except MemoryError as error:
        raise out_of_memory(config, work, "the machine has no memory left", when()) from error
    except RuntimeError as error:
        if not _NO_MEMORY.search(str(error)):
            raise
        raise out_of_memory(config, work, str(error).split("\n")[0][:300], when()) from error
