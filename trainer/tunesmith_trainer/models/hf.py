"""Models from the Hugging Face hub, or a mirror of it (HF_ENDPOINT), pinned to a commit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.storage.filesystems import Report
from tunesmith_trainer.storage.hub import HubRepository
from tunesmith_trainer.storage.hub_errors import MODEL


def pinned_commit(work: WorkFolder, uri: str, revision: str | None) -> str:
    """Return the commit of a revision. It is recorded, so that a second run takes the same files.

    Raises:
        StageError: MODEL_NOT_FOUND, or SOURCE_UNAVAILABLE when the hub cannot be reached.
    """
    return _repository(uri).pinned_commit(revision, work.stage(Stage.PREPARE) / "model-source.json")


def list_files(uri: str, commit: str) -> list[str]:
    """Return the paths of all files of a model.

    Raises:
        StageError: MODEL_NOT_FOUND, or SOURCE_UNAVAILABLE when the hub cannot be reached.
    """
    return _repository(uri).files(commit)


def download(uri: str, commit: str, names: Sequence[str], target: Path, report: Report | None = None) -> None:
    """Download files of a model into a folder. Existing files are kept, and those that broke off are completed.

    Args:
        uri: The model.
        commit: Its commit.
        names: Paths of the files.
        target: The folder.
        report: Called repeatedly with the bytes so far and in total. If it raises an error, the downloads stop.

    Raises:
        StageError: MODEL_NOT_FOUND; SOURCE_UNAVAILABLE.
    """
    _repository(uri).download(commit, names, target, report)


def _repository(uri: str) -> HubRepository:
    return HubRepository(uri, uri.removeprefix("hf://"), MODEL)
