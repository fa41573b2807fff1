"""Full disks: recognises them in the errors of any library, and says which disk, what is free and what is needed."""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.local.files import read_json
from tunesmith_api.work_folder import Stage, WorkFolder

# How C, Rust (safetensors) and Python say it.
_FULL = re.compile(r"No space left on device|os error 28\b|StorageFull|Disk quota exceeded|os error 122\b")
# torch does not say why it could not write.
_TORCH = re.compile(r"PytorchStreamWriter|inline_container")
_LITTLE = 16 << 20  # bytes; with less free, torch's error means a full disk

_REMEDY = (
    "Free some space there, or give the job a larger volume (storage.size in a cluster, --work on one machine); "
    "run again, it goes on from what is complete"
)


def is_full(error: BaseException, folder: Path) -> bool:
    """Return whether an error, or one that caused it, means that a disk is full.

    Args:
        error: The error.
        folder: A folder on the disk that was written to.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if is_full_text(str(found)) or (_TORCH.search(str(found)) and _usage(folder)[0] < _LITTLE):
            return True
        found = found.__cause__ or found.__context__
    return False


def is_full_text(text: str) -> bool:
    """Return whether a program's output says that a disk is full."""
    return bool(_FULL.search(text))


def disk_full(path: Path, needed: int | None = None, what: str = "") -> StageError:
    """Return the error for a disk that is full, or too small.

    Args:
        path: A path on the disk; it need not exist.
        needed: Bytes that are needed; None if that is not known.
        what: What they are needed for.
    """
    free, total = _usage(path)
    need = f", and the job needs {human(needed)}{f' ({what})' if what else ''}" if needed else ""
    return StageError(
        Reason.DISK_FULL, f"{path}: the disk is full: {human(free)} of {human(total)} are free{need}", _REMEDY
    )


def job_disk_full(work: WorkFolder, error: BaseException | None = None) -> StageError:
    """Return the error for a stage that has filled up a disk, with what `prepare` has estimated that the job needs."""
    disk = (read_json(work.stage_marker(Stage.PREPARE)) or {}).get("disk") or {}
    named = getattr(error, "filename", None)
    path = Path(named) if isinstance(named, str) else work.root
    return disk_full(path, disk.get("total"), "for all stages, what is there included")


def human(size: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _usage(path: Path) -> tuple[int, int]:
    """Return the free and all bytes of the disk that a path is on."""
    existing = next((folder for folder in (path, *path.absolute().parents) if folder.exists()), Path("/"))
    usage = shutil.disk_usage(existing)
    return usage.free, usage.total


def free_bytes(path: Path) -> int:
    """Return the free bytes of the disk that a path is on; the path need not exist."""
    return _usage(path)[0]
