"""Compares the disk that the later stages need with what is free, before training."""

from __future__ import annotations

import os
from pathlib import Path

from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.runtime.disk import disk_full, free_bytes, human
from tunesmith_trainer.storage.uris import local_path


def require_disk(config: JobConfig, work: WorkFolder, parts: dict[str, int]) -> None:
    """Fail if the work folder's disk, or that of a local output, has less room than is needed.

    Args:
        config: The job.
        work: Its work folder.
        parts: The bytes by what they are, and their `total`, as `disk_of` returns them.

    Raises:
        StageError: DISK_FULL, with the need of each part.
    """
    _require(work.root, parts["total"], {name: size for name, size in parts.items() if name != "total"})
    output = local_path(config.spec.output.uri) if config.spec.output and config.spec.output.uri else None
    if output is None:
        return
    parent = next(folder for folder in output.parents if folder.exists())
    if os.stat(parent).st_dev != os.stat(work.root).st_dev:  # no hard links between two disks
        copied = {name: size for name, size in parts.items() if name.endswith(("export", "trained weights"))}
        if config.spec.export.merge_weights:
            copied["merged model"] = parts["merged model"]
        _require(output, sum(copied.values()), copied)


def _require(path: Path, needed: int, parts: dict[str, int]) -> None:
    if needed > free_bytes(path):
        raise disk_full(path, needed, ", ".join(f"{name} {human(size)}" for name, size in parts.items() if size))
