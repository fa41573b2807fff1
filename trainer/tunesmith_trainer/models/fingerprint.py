"""The base model's files as `prepare` saw them, and the check that later stages read the same ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunesmith_api.artifact import digest_of_json
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.models.layout import local_files
from tunesmith_trainer.models.location import model_path
from tunesmith_trainer.storage.files import read_json, sha256_file, write_json

_FILE = "model-files.json"
_SMALL = 32 << 20  # a tokenizer or a template is smaller; hashing it costs nothing


def record(folder: Path, work: WorkFolder) -> str:
    """Write the digests of a model's files into the prepare stage's folder; return the digest of all of them."""
    files = _digests(folder)
    write_json(work.stage(Stage.PREPARE) / _FILE, files)
    return digest_of_json({name: entry["sha256"] for name, entry in files.items()})


def require_same_base(work: WorkFolder, *, quick: bool = False) -> None:
    """Fail if the base model is not the one that `prepare` checked and tokenised for.

    Args:
        work: The work folder.
        quick: Whether files over 32 MiB are compared by size only: hashing weights takes time in which a GPU would
            wait. `publish` compares everything before it uses the model.

    Raises:
        StageError: INVALID_MODEL, naming the files that differ.
    """
    expected = read_json(work.stage(Stage.PREPARE) / _FILE)
    if expected is None:  # prepared by a version that did not record them
        return
    folder = model_path(work)
    changed = sorted({*expected} ^ set(local_files(folder)))
    for name, entry in expected.items():
        path = folder / name
        if name in changed:
            continue
        size = path.stat().st_size
        hashed = not quick or size <= _SMALL
        if size != entry["size"] or (hashed and sha256_file(path) != entry["sha256"]):
            changed.append(name)
    if changed:
        raise StageError(
            Reason.INVALID_MODEL,
            f"the base model in {folder} is not the one that the data was prepared for: {', '.join(changed)} changed",
            "Put the files back, or start a new job for the changed model",
        )


def _digests(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        name: {"sha256": sha256_file(folder / name), "size": (folder / name).stat().st_size}
        for name in local_files(folder)
    }
