"""Training that ran out of memory goes on with fewer rows in a forward pass, and more passes in a step.

The result stays the same, as a step still averages over the same rows.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace

from tunesmith_api.advice import MemorySettings
from tunesmith_api.contract import KILLED_FOR_MEMORY
from tunesmith_api.failures import StageError
from tunesmith_api.resolve import resolve
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.train.adjusted import Adjusted, read_adjusted, write_adjusted
from tunesmith_trainer.train.exhausted import MemoryExhaustedError, out_of_memory
from tunesmith_trainer.train.planned import planned

log = logging.getLogger(__name__)


def lower_memory(config: JobConfig, work: WorkFolder, world: int, error: StageError) -> bool:
    """Record the values that the next try is to have after a failure, and return whether there is to be one.

    Args:
        config: The job.
        work: Its work folder.
        world: Processes that train together, over all nodes.
        error: Why training failed.
    """
    if not isinstance(error, MemoryExhaustedError) or not error.when:
        return False
    before = current(config, work, world)
    after = _lowered(config, before, world, f"out of memory {error.when}")
    if after is None:
        return False
    write_adjusted(work, after)
    log.warning("%s. Going on with %s", error.message, after.summary)
    return True


def lower_after_kills(config: JobConfig, work: WorkFolder, world: int) -> None:
    """Lower the values if a container was killed for its memory since they were chosen. Node 0 calls it.

    The operator says how often that has happened.

    Args:
        config: The job.
        work: Its work folder.
        world: Processes that train together, over all nodes.

    Raises:
        MemoryExhaustedError: There is nothing left to lower.
    """
    kills = int(os.environ.get(KILLED_FOR_MEMORY) or 0)
    before = current(config, work, world)
    if kills <= before.kills:
        return
    after = _lowered(config, before, world, "the container was killed for its memory")
    if after is None:
        raise out_of_memory(config, work, "the container was killed")
    write_adjusted(work, replace(after, kills=kills))
    log.warning("The container was killed for its memory. Going on with %s", after.summary)


def current(config: JobConfig, work: WorkFolder, world: int) -> Adjusted:
    """Return the values that training has, those of earlier attempts included."""
    found = read_adjusted(work)
    if found is not None:
        return found
    resolved = resolve(config.spec, world, 1, False, planned(work))
    return Adjusted(MemorySettings(resolved.micro_batch_size, resolved.gradient_checkpointing))


def _lowered(config: JobConfig, before: Adjusted, world: int, why: str) -> Adjusted | None:
    """Return the values that need the next less memory, and why; None if there are none."""
    settings = before.settings.lowered(config.spec.training.global_batch_size // world)
    if settings is None:
        return None
    size = before.settings.micro_batch_size
    if settings.micro_batch_size < size:
        verb = "halved" if settings.micro_batch_size * 2 == size else "lowered"
        return replace(before, settings=settings, batch_reason=f"{verb} from {size} after {why}")
    return replace(before, settings=settings, checkpointing_reason=f"turned on after {why}")
