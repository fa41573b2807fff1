"""The failure of training that needs more memory than there is."""

from __future__ import annotations

from tunesmith_api.advice import another_way, less_memory
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.train.adjusted import read_adjusted
from tunesmith_trainer.train.planned import planned


class MemoryExhaustedError(StageError):
    """Training needs more memory than there is.

    Attributes:
        when: When it was noticed, such as "at step 12"; empty if training had not begun.
    """

    def __init__(self, message: str, remedy: str, when: str = "") -> None:
        super().__init__(Reason.OUT_OF_MEMORY, message, remedy)
        self.when = when


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
