"""The base model's artifact, which is exported once for all adapters on it."""

from __future__ import annotations

import json
import os.path
import posixpath
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import LORA_BASE, MANIFEST, ONNX, digest_of_json
from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.publish.deliver import deliver
from tunesmith_trainer.storage import filesystems as storage
from tunesmith_trainer.storage.claims import claimed
from tunesmith_trainer.storage.completion import file_problem
from tunesmith_trainer.storage.downloads import fetch_folder
from tunesmith_trainer.storage.files import read_json, write_atomic
from tunesmith_trainer.storage.uris import local_path, scheme_of

_ANOTHER = "Write another export.baseUri, or leave it out: then each base has a folder of its own"


@dataclass(frozen=True)
class BaseIdentity:
    """What two jobs must have in common to share a base.

    Attributes:
        model: Digest of the base model's files.
        quantization: Digest of its quantized weights, if training computed with such.
        chat_template: Digest of its chat template; None if it has none.
        precisions: The number formats that are exported.
    """

    model: str
    quantization: str | None
    chat_template: str | None
    precisions: tuple[str, ...]

    @property
    def folder_name(self) -> str:
        """The name of the artifact's folder, if the job names none."""
        parts = {"model": self.model, "quantization": self.quantization, "chatTemplate": self.chat_template}
        key = digest_of_json({**parts, "precisions": self.precisions}).removeprefix("sha256:")[:12]
        return "-".join(["base", *(["nf4"] if self.quantization else []), *self.precisions, key])

    def problem(self, manifest: Mapping[str, Any]) -> str | None:
        """Return why an artifact is not this base, as the end of a sentence about it; None if it is."""
        if manifest.get("kind") != LORA_BASE:
            return "is no base model for adapters"
        found = (manifest.get("baseModel") or {}).get("digest")
        if found != self.model:
            return f"is of another base model ({_short(found)}, not {_short(self.model)})"
        if manifest.get("quantization") != self.quantization:
            return "has base weights of another method: those of qlora are rounded to nf4, as in training"
        if manifest.get("chatTemplate") != self.chat_template:
            return "has another chat template than this job's base model"
        missing = [precision for precision in self.precisions if precision not in manifest.get("precisions", ())]
        return f"holds no {' and no '.join(missing)}" if missing else None


def _short(digest: object) -> str:
    return str(digest)[:19] if digest else "no digest"


def base_uri(named: str | None, output: str, identity: BaseIdentity) -> str:
    """Return where the base's artifact is: where the job says, by default beside its output.

    Args:
        named: `export.baseUri`.
        output: Where the adapter goes.
        identity: The base.
    """
    if named:
        folder = local_path(named)
        return named if folder is None else str(folder)
    parent, _, _ = output.rstrip("/").rpartition("/")
    return f"{parent}/{identity.folder_name}"


def relative_uri(base: str, output: str) -> str:
    """Return the base's place as an adapter's manifest names it: relative to the adapter, where both move together."""
    if scheme_of(base) != scheme_of(output):
        return base
    if scheme_of(base) == "file":
        return Path(os.path.relpath(local_path(base) or base, local_path(output) or output)).as_posix()
    first, second = base.partition("://")[2], output.partition("://")[2]
    if first.split("/")[0] != second.split("/")[0]:
        return base
    return posixpath.relpath(f"/{first}", f"/{second}")


def absolute_uri(place: str, output: str) -> str:
    """Return the URI or absolute path of a base that `relative_uri` has named."""
    if "://" in place:
        return place
    if (folder := local_path(output)) is not None:
        return os.path.normpath(folder / place)
    scheme, _, path = output.partition("://")
    return f"{scheme}:/{posixpath.normpath(f'/{path}/{place}')}"


def read_base(uri: str, identity: BaseIdentity) -> dict[str, Any] | None:
    """Return the manifest of the base at a URI; None if there is no complete artifact.

    Raises:
        StageError: OUTPUT_FAILED: another artifact is there.
    """
    place = f"{uri.rstrip('/')}/{MANIFEST}"
    if not storage.exists(place):
        return None
    with storage.open_source(place, Reason.OUTPUT_FAILED) as file:
        try:
            manifest: Any = json.load(file)
            problem = identity.problem(manifest)
        except (ValueError, AttributeError, TypeError):
            problem = "has a manifest.json that cannot be read"
    if problem:
        raise StageError(Reason.OUTPUT_FAILED, f"the artifact in {uri} {problem}", _ANOTHER)
    return dict(manifest)


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
