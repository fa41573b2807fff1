"""Progress of the publish stage."""

from __future__ import annotations

import logging

from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.runtime.steps import StepProgress

log = logging.getLogger(__name__)


class Progress(StepProgress):
    """Reports what the stage is doing."""

    def __init__(self, work: WorkFolder) -> None:
        super().__init__(work, Stage.PUBLISH, log)
