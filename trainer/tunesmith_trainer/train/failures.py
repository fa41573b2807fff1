"""Translates running out of memory into a StageError with a remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from tunesmith_api.advice import another_way, less_memory
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.train.adjusted import read_adjusted
from tunesmith_trainer.train.lower_memory import MemoryExhaustedError
from tunesmith_trainer.train.planned import planned

# Messages of RuntimeErrors: from the CPU's allocator, and from CUDA libraries outside torch's allocator.
_NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|Cannot allocate memory|CUDA error: out of memory|_STATUS_ALLOC_FAILED",
    re.I,
)


def out_of_memory(config: JobConfig, work: WorkFolder, detail: str, when: str = "") -> MemoryExhaustedError:
    """Return the error for training that needs more memory than there is.

    Args:
        config: The job.
        work: Its work folder.
        detail: What has failed.
        when: When, such as "at step 12"; empty before training has begun.
    """
    plan, spec, changes = planned(work), config.spec, ""
    if (adjusted := read_adjusted(work)) is not None:
        values = {
            "micro_batch_size": adjusted.settings.micro_batch_size,
            "gradient_checkpointing": adjusted.settings.gradient_checkpointing,
        }
        spec = spec.model_copy(update={"training": spec.training.model_copy(update=values)})
        changes = f", with {adjusted.summary}"
    remedy = ", or ".join([*less_memory(spec, "spec.", plan), *another_way(spec, "spec.", plan)])
    message = f"out of memory{' ' if when else ''}{when}{changes}: {detail}"
    return MemoryExhaustedError(message, remedy[0].upper() + remedy[1:], when)


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
