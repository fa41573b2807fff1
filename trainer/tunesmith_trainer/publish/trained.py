"""Checks that the trained weights are those that the train stage wrote."""

from __future__ import annotations

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.storage.files import digest_of_tree, read_json


def require_trained_files(work: WorkFolder) -> None:
    """Fail if `final/` is not what the train stage's marker names.

    Raises:
        StageError: PARITY_FAILED.
    """
    expected = (read_json(work.stage_marker(Stage.TRAIN)) or {}).get("final")
    if expected is not None and digest_of_tree(work.final) != expected:
        raise StageError(
            Reason.PARITY_FAILED,
            f"the trained weights in {work.final} are not those that this job's training wrote",
            "Put the files back, or start a new job",
        )
