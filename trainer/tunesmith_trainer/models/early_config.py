"""Reads a base model's config.json before its weights are fetched."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.models.base import pinned_commit
from tunesmith_trainer.models.hf import download_file
from tunesmith_trainer.storage.filesystems import open_source
from tunesmith_trainer.storage.uris import local_path

_CONFIG = "config.json"


def early_config(config: JobConfig, work: WorkFolder) -> Mapping[str, Any] | None:
    """Return the config.json of a job's existing base model, without fetching its weights.

    Returns:
        Its content; None if there is none, or if it is broken: fetching the model says so with all that belongs to it.

    Raises:
        StageError: SOURCE_UNAVAILABLE: it cannot be reached at the moment.
    """
    uri = config.spec.model.uri
    if uri is None:
        return None
    try:
        value = json.loads(_content(uri, config, work))
    except StageError as error:
        if error.reason is Reason.SOURCE_UNAVAILABLE:
            raise
        return None
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _content(uri: str, config: JobConfig, work: WorkFolder) -> bytes:
    if (folder := local_path(uri) if not uri.startswith("hf://") else None) is not None:
        return (folder / _CONFIG).read_bytes()
    if (prepared := work.prepared_model / _CONFIG).is_file():
        return prepared.read_bytes()
    if uri.startswith("hf://"):
        commit = pinned_commit(work, uri, config.spec.model.revision)
        with tempfile.TemporaryDirectory() as target:
            return download_file(uri, commit, _CONFIG, Path(target)).read_bytes()
    with open_source(f"{uri.rstrip('/')}/{_CONFIG}", missing=Reason.MODEL_NOT_FOUND) as file:
        return file.read()
