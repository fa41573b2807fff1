"""Opening an artifact: every file that is loaded is checked against the manifest first."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tunesmith_api.artifact import FORMAT_VERSION, MANIFEST, NO_ONNX, artifact_digest, held_precisions, onnx_folder
from tunesmith_api.spec.execution_providers import CPU
from tunesmith_api.spec.runtime import cannot_serve, served_precision
from tunesmith_api.tasks import DEFAULT_TASK
from tunesmith_serving.runtime.errors import ArtifactError


@dataclass(frozen=True)
class Artifact:
    """One precision of a verified artifact.

    Attributes:
        name: The model's name in the manifest.
        folder: The artifact's folder.
        onnx: The folder of the opened precision.
        files: Verified files, by their names in `onnx`; no other file is read.
        manifest: The content of manifest.json.
    """

    name: str
    folder: Path
    onnx: Path
    files: frozenset[str]
    manifest: dict[str, Any]

    @property
    def task(self) -> str:
        """The task that the model was trained for; it decides which engine serves the artifact."""
        return str(self.manifest.get("task") or DEFAULT_TASK)

    def require(self, *names: str) -> None:
        """Check that the artifact has these files.

        Raises:
            ArtifactError: The manifest does not list one of them.
        """
        for name in names:
            if name not in self.files:
                listed = (self.onnx / name).relative_to(self.folder).as_posix()
                raise ArtifactError(f"{self.folder / MANIFEST} does not list {listed}; export the model again")

    def read_text(self, name: str) -> str | None:
        """Return the text of a verified file, or None if the artifact does not have it."""
        return (self.onnx / name).read_text(encoding="utf-8") if name in self.files else None

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the object in a verified JSON file.

        Raises:
            ArtifactError: The file is not a JSON object.
        """
        text = self.read_text(name)
        try:
            value = json.loads(text or "")
        except ValueError as error:
            raise ArtifactError(f"{self.onnx / name} is not JSON: {error}; export the model again") from None
        if not isinstance(value, dict):
            raise ArtifactError(f"{self.onnx / name} is not a JSON object; export the model again")
        return value


def open_artifact(folder: Path | str, precision: str | None, expect_digest: str = "", provider: str = CPU) -> Artifact:
    """Open an artifact and verify every file of one precision against the manifest's sha256.

    Args:
        folder: The artifact.
        precision: The exported model to open; None for the one that the execution provider computes first.
        expect_digest: The digest that the artifact must have (`sha256:...`); empty accepts any.
        provider: The execution provider that is to compute it.

    Raises:
        ArtifactError: The folder, the manifest or the precision is missing, a file is missing or changed, or the
            artifact's digest is not the expected one.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    verify_digest(folder, manifest, expect_digest)
    entries: dict[str, Any] = manifest["files"]
    have = held_precisions(entries)
    by = provider, str(manifest.get("task") or DEFAULT_TASK)
    precision = served_precision(have, precision, *by)
    if precision is None:
        raise ArtifactError(f"{folder} {cannot_serve(have, *by) if have else NO_ONNX}")
    prefix = f"{onnx_folder(precision)}/"
    names = {path[len(prefix) :]: entry for path, entry in entries.items() if path.startswith(prefix)}
    if not names:
        if not have:
            raise ArtifactError(f"{folder} {NO_ONNX}")
        raise ArtifactError(
            f"{folder} holds no precision {precision} (it has {', '.join(have)}); choose one it has, or export "
            f"{precision}"
        )
    onnx = folder / onnx_folder(precision)
    for name, entry in sorted(names.items()):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ArtifactError(f"{folder / MANIFEST} lists {prefix}{name}, which leaves the folder")
        _verify(onnx / name, entry, folder)
    return Artifact(str(manifest.get("name") or folder.name), folder, onnx, frozenset(names), manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the content of an artifact's manifest.json.

    Raises:
        ArtifactError: The folder is no complete artifact, or of another version.
    """
    if not folder.is_dir():
        raise ArtifactError(f"artifact folder {folder} does not exist")
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(
            f"{folder} has no manifest.json, so it is not an artifact or is incomplete (the manifest is written last); "
            "wait for the publish stage to end, or run it again"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}; run the publish stage again") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise ArtifactError(f"{path} is not a manifest: it needs an object `files`; run the publish stage again")
    version = manifest.get("formatVersion")
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"{path} has formatVersion {version!r}; this server reads {FORMAT_VERSION}: use a server of its version"
        )
    return manifest


def verify_digest(folder: Path, manifest: dict[str, Any], expected: str) -> None:
    """Check that the manifest's digest matches its list of files, and is the expected one.

    Raises:
        ArtifactError: It is not.
    """
    path, digest = folder / MANIFEST, manifest.get("digest")
    if digest is not None and digest != artifact_digest(manifest["files"]):
        raise ArtifactError(
            f"{path} is damaged: its digest is not that of the files it lists; copy or publish the artifact again"
        )
    if expected and digest != expected:
        have = f"digest {str(digest)[:17]}..." if digest else "no digest"
        raise ArtifactError(
            f"{folder} is not the artifact that was asked for: it has {have}, not {expected[:17]}...; an artifact is "
            "never changed, so put the right one there, or publish the new one elsewhere"
        )


def _verify(path: Path, entry: object, folder: Path) -> None:
    if not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str):
        raise ArtifactError(f"{folder / MANIFEST} gives no sha256 for {path}; run the publish stage again")
    if not path.is_file():
        raise ArtifactError(f"{path} is missing, though manifest.json lists it; copy or publish the artifact again")
    size = path.stat().st_size
    if isinstance(entry.get("size"), int) and entry["size"] != size:
        raise ArtifactError(f"{path} has {size} bytes, manifest.json says {entry['size']}; copy the artifact again")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != entry["sha256"].removeprefix("sha256:"):
        raise ArtifactError(
            f"{path} is damaged: its sha256 is {digest[:12]}..., manifest.json says {entry['sha256'][:12]}...; "
            "copy or publish the artifact again"
        )
