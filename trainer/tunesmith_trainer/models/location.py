"""Locates the base model of a job."""

from __future__ import annotations

from pathlib import Path

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.storage.files import read_json


def model_path(work: WorkFolder) -> Path:
    """Return the folder of the base model, in the transformers layout, that the prepare stage recorded.

    Raises:
        StageError: The prepare stage is not complete.
    """
    marker = read_json(work.stage_marker(Stage.PREPARE))
    if marker is None:
        raise StageError(Reason.INTERNAL_ERROR, "prepare is not complete", "Run the prepare stage first")
    # Not `work.root`: a checkpoint that is published has one of its own, and the job's prepare.
    return work.stage(Stage.PREPARE).parent / marker["model"]["path"]
