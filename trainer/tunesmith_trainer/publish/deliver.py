"""Delivers the artifact to the job's output: written once, complete or without a manifest."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import MANIFEST
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.runtime.disk import disk_full, is_full
from tunesmith_trainer.storage import filesystems as storage
from tunesmith_trainer.storage.files import link_tree, sweep
from tunesmith_trainer.storage.uris import local_path
from tunesmith_trainer.storage.work_store import work_store

log = logging.getLogger(__name__)


def output_uri(config: JobConfig, work: WorkFolder) -> str:
    """Return where the artifact goes: the job's output, by default a folder beside the job's work."""
    output = config.spec.output
    if output and output.uri:
        return output.uri
    store = work_store(work)
    return f"{store.uri}/{work.artifact.name}" if store else str(work.artifact.absolute())


def deliver(artifact: Path, digest: str, uri: str, report: storage.Report | None = None) -> str:
    """Write a complete artifact to a URI.

    On a local disk the whole folder appears at once. Elsewhere the manifest is written last, and the leftovers of an
    interrupted delivery are overwritten.

    Args:
        artifact: The artifact folder.
        digest: The artifact's digest.
        uri: A path or URI.
        report: Called now and then with the bytes uploaded and the total.

    Returns:
        The artifact's place: an absolute path, or the URI.

    Raises:
        StageError: OUTPUT_FAILED: there is another artifact already, or it cannot be written. DISK_FULL.
    """
    folder = local_path(uri)
    present = _digest_at(uri)
    if present == digest:
        log.info("%s holds the artifact already", uri)
    elif present is not None:
        raise StageError(
            Reason.OUTPUT_FAILED,
            f"{uri} holds another artifact ({present}), and artifacts are never changed",
            "Write another output.uri, or remove that artifact if nothing uses it",
        )
    elif folder is None:
        storage.put_folder(artifact, uri, last=MANIFEST, report=report)
    else:
        _deliver_local(artifact, folder)
    return uri if folder is None else str(folder)


def _digest_at(uri: str) -> str | None:
    """Return the digest of the complete artifact at a URI, or None if there is none."""
    manifest = f"{uri.rstrip('/')}/{MANIFEST}"
    if not storage.exists(manifest):
        return None
    with storage.open_source(manifest, Reason.OUTPUT_FAILED) as file:
        try:
            value: Any = json.load(file)
            return str(value["digest"])
        except (ValueError, KeyError, TypeError):
            return "its manifest.json cannot be read"


def _deliver_local(artifact: Path, folder: Path) -> None:
    """Create the folder by renaming a temporary one beside it."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise StageError(
                Reason.OUTPUT_FAILED,
                f"{folder} is not empty, and holds no artifact",
                "Write an output.uri that does not exist yet, or empty that folder",
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent, f".{folder.name}.*.tmp")
        link_tree(artifact, temporary)
        temporary.replace(folder)
    except OSError as error:
        if is_full(error, folder):
            raise disk_full(folder, sum(path.stat().st_size for path in artifact.rglob("*")), "the artifact") from error
        raise StageError(
            Reason.OUTPUT_FAILED,
            f"{folder}: cannot write: {error.strerror or error}",
            "Check the path and its permissions, or write another output.uri",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
