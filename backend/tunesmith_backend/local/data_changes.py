"""Finds local data files that differ from those that a job's prepare stage has read."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith_api.local.files import read_json
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import STAGE_INPUTS, Stage, WorkFolder

_PATTERN = re.compile(r"[*?\[]")


def changed_sources(config: JobConfig, work: WorkFolder) -> list[str]:
    """Return the local data files that prepare has not read as they are now, sorted.

    These are files with other content, and with folders and patterns also new and missing files. A file is read again
    only if it was written, replaced or renamed since prepare began. A missing file that a source names itself does not
    count: whether it has changed is unknown, and training no longer needs it.

    Args:
        config: The job, with absolute paths.
        work: The job's work folder.
    """
    marker: dict[str, Any] = read_json(work.stage_marker(Stage.PREPARE)) or {}
    inputs = work.stage(Stage.PREPARE) / STAGE_INPUTS
    if not marker or not inputs.exists():
        return []
    began = inputs.stat().st_mtime
    read = {path: digest for name, digest in _read(marker) if (path := _local(name))}
    changed = {path for path, digest in read.items() if _differs(path, digest, began)}
    dataset = config.spec.dataset
    for source in (*dataset.sources, *(dataset.validation.sources or ())):
        path = _local(source.uri or "")
        if path is None:
            continue
        if path.is_dir():
            endings = {file.suffix for file in read}
            found = {file for file in path.iterdir() if file.suffix in endings and file.name[0] not in "._"}
            changed |= found ^ {file for file in read if file.parent == path}
        elif _PATTERN.search(str(path)) and not path.exists():
            found = {Path(name) for name in glob.iglob(str(path), recursive=True)}
            changed |= {file for file in found - read.keys() if file.is_file()}
    return sorted(map(str, changed))


def _read(marker: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the name and the SHA-256 of each file that prepare has read."""
    sources = (marker.get("data") or {}).get("sources") or []
    return [(str(source.get("name", "")), str(source.get("sha256", ""))) for source in sources]


def _local(name: str) -> Path | None:
    """Return the path of a local file or folder, None for a URI of another place and for a ConfigMap's key."""
    path = Path(name.removeprefix("file://"))
    return path if path.is_absolute() else None


def _differs(path: Path, digest: str, since: float) -> bool:
    if not path.is_file() or path.stat().st_ctime < since:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() != digest
