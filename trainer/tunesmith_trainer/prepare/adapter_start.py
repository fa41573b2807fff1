"""What training begins with besides the base model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.data.progress import Progress
from tunesmith_trainer.methods.registry import method_of
from tunesmith_trainer.storage.files import sha256_file


def write_start(config: JobConfig, work: WorkFolder, base: Path, layers: Mapping[str, tuple[int, int]]) -> str | None:
    """Write what the method begins with besides the base model, if anything.

    Args:
        config: The job.
        work: Its work folder.
        base: Folder of the base model.
        layers: Inputs and outputs of its linear layers that can have an adapter, by their full names.

    Returns:
        The file's SHA-256; None if there is none.
    """
    settings, file = config.spec.adapter_settings, work.adapter_start
    if settings is None or not settings.begins_with_base:
        return None
    partial = file.with_name(f".{file.name}.partial")
    with Progress(work, "computing the adapter's first matrices", None, "layers") as progress:
        method_of(config.spec.method).write_start(base, layers, settings, partial, progress.over)
    partial.replace(file)
    return sha256_file(file)
