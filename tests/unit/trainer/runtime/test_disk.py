"""A full disk is recognised in what each library raises."""

import errno
import json
from pathlib import Path

import pytest

from tunesmith_api.failures import EXIT_CODES, Reason
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.runtime.disk import is_full, job_disk_full

SAFETENSORS = (
    'Error while serializing: I/O error: Os { code: 28, kind: StorageFull, message: "No space left on device" }'
)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError(SAFETENSORS),
        RuntimeError("No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_recognised(error: Exception, tmp_path: Path) -> None:
    assert is_full(error, tmp_path)
    caused = ValueError("saving failed")
    caused.__cause__ = error
    assert is_full(caused, tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EACCES, "Permission denied"),
        ValueError("os error 2"),
        RuntimeError("[enforce fail at inline_container.cc:672] unexpected pos"),  # there is room here
    ],
)
def test_other_errors_are_not_taken_for_one(error: Exception, tmp_path: Path) -> None:
    assert not is_full(error, tmp_path)


def test_the_error_says_path_need_and_free_space(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path)
    work.stage(Stage.PREPARE).mkdir()
    work.stage_marker(Stage.PREPARE).write_text(json.dumps({"disk": {"total": 5_000_000_000}}))
    error = job_disk_full(work, OSError(errno.ENOSPC, "No space left on device", "/work/train/x"))
    assert (error.reason, EXIT_CODES[error.reason]) == (Reason.DISK_FULL, 19)
    assert error.message.startswith("/work/train/x: the disk is full: ")
    assert "are free, and the job needs 5.0 GB" in error.message
    assert "storage.size" in error.remedy
