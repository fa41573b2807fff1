"""The base model's artifact, which is exported once for all adapters on it."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import MANIFEST, ONNX
from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.publish.deliver import deliver
from tunesmith_trainer.storage.claims import claimed
from tunesmith_trainer.storage.completion import file_problem
from tunesmith_trainer.storage.downloads import fetch_folder
from tunesmith_trainer.storage.files import read_json, write_atomic
from tunesmith_trainer.storage.lora_base import BaseIdentity, read_base
from tunesmith_trainer.storage.uris import local_path


def obtain_base(
    uri: str, identity: BaseIdentity, folder: Path, make: Callable[[], Path], step: Callable[[str], None]
) -> tuple[Path, dict[str, Any]]:
    """Return a local folder of the base's artifact, and its manifest; it is made and written if there is none yet.

    Of several jobs one makes it, and the others wait for it.

    Args:
        uri: Where it is, or is to be.
        identity: The base.
        folder: A folder for this job's files.
        make: Makes the artifact and returns its folder.
        step: Reports a step that takes long enough to be shown.

    Raises:
        StageError: OUTPUT_FAILED: another artifact is there, it cannot be written, or a file of it is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder / "owner"
    if not owner.is_file():
        write_atomic(owner, uuid.uuid4().hex.encode())
    made: Path | None = None
    with claimed(uri, owner.read_text(), lambda: read_base(uri, identity) is not None) as mine:
        if mine and read_base(uri, identity) is None:
            made = make()
            step(f"writing the base model to {uri}")
            deliver(made, read_json(made / MANIFEST)["digest"], uri)
    manifest = read_base(uri, identity)
    if manifest is None:
        raise StageError(Reason.OUTPUT_FAILED, f"{uri} holds no base model any more", "Run the job again")
    return _local(uri, manifest, folder / "fetched", made, identity), manifest


def _local(uri: str, manifest: Mapping[str, Any], target: Path, made: Path | None, identity: BaseIdentity) -> Path:
    """Return a folder on this machine with the exports of a base, whose files are whole."""
    if made is not None and (read_json(made / MANIFEST) or {}).get("digest") == manifest["digest"]:
        return made
    wanted = tuple(f"{ONNX}/{precision}/" for precision in identity.precisions)
    names = [name for name in manifest["files"] if name.startswith(wanted)]
    found = local_path(uri)
    if found is None:
        found = target
        before = read_json(target / MANIFEST) or {}
        if before.get("digest") != manifest["digest"]:
            shutil.rmtree(target, ignore_errors=True)
        fetch_folder(uri, target, names=[*names, MANIFEST], missing=Reason.OUTPUT_FAILED)
    for name in names:
        if problem := file_problem(found / name, manifest["files"][name]):
            raise StageError(
                Reason.OUTPUT_FAILED,
                f"the base model in {uri} is damaged: {name} {problem}",
                "Remove it if no server uses it, and run the job again: it is exported anew",
            )
    return found
