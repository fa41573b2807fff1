"""Checks before training that the artifact can be written where the job wants it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import MANIFEST
from tunesmith_api.contract import SKIP_OUTPUT_PROBE
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import JobConfig
from tunesmith_trainer.storage import filesystems as storage
from tunesmith_trainer.storage.uris import local_path

_ANOTHER = "Write another output.uri, or remove what is there if nothing uses it"


def probe_output(config: JobConfig) -> None:
    """Write and remove a small file where the job's artifact is to go.

    Raises:
        StageError: OUTPUT_FAILED: it cannot be written, or holds something else. SOURCE_UNAVAILABLE: the store does not
            answer at the moment.
    """
    uri = config.spec.output.uri if config.spec.output else None
    if not uri:
        return
    if (folder := local_path(uri)) is not None:
        _probe_local(folder, config)
        return
    if os.environ.get(SKIP_OUTPUT_PROBE):
        return
    if storage.exists(f"{uri.rstrip('/')}/{MANIFEST}"):
        with storage.open_source(f"{uri.rstrip('/')}/{MANIFEST}", Reason.OUTPUT_FAILED) as file:
            _require_own(uri, file.read(), config)
    else:
        storage.probe(uri)


def _probe_local(folder: Path, config: JobConfig) -> None:
    """Check that a local folder is absent or empty, and that it can be created."""
    try:
        if (folder / MANIFEST).is_file():
            _require_own(str(folder), (folder / MANIFEST).read_bytes(), config)
        elif folder.exists() and not folder.is_dir():
            raise StageError(Reason.OUTPUT_FAILED, f"{folder} is a file, not a folder", "Write another output.uri")
        elif folder.is_dir() and any(folder.iterdir()):
            raise StageError(
                Reason.OUTPUT_FAILED,
                f"{folder} is not empty, and holds no artifact",
                "Write an output.uri that does not exist yet, or empty that folder",
            )
        missing = [parent for parent in folder.parents if not parent.exists()]
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Beside the folder, where the artifact is put together before it gets its name.
            probe = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
            probe.write_bytes(b"tunesmith")
            probe.unlink()
        finally:
            for parent in missing:
                parent.rmdir()
    except OSError as error:
        raise StageError(
            Reason.OUTPUT_FAILED,
            f"{folder}: cannot write: {error.strerror or error}",
            "Correct output.uri, or the permissions of its parent folder",
        ) from error


def _require_own(uri: str, manifest: bytes, config: JobConfig) -> None:
    """Fail if an artifact at the URI is not one of this very job, which would be the same again."""
    try:
        found: Any = json.loads(manifest)
        own = found["name"] == config.name and found["namespace"] == config.namespace
    except (ValueError, KeyError, TypeError):
        own = False
    if not own:
        raise StageError(
            Reason.OUTPUT_FAILED, f"{uri} holds another artifact, and artifacts are never changed", _ANOTHER
        )
