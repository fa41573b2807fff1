"""Stores the objects and ConfigMaps of the local backend on disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tunesmith_api.contract import ADAPTERS_FILE
from tunesmith_api.local.files import read_json, write_json
from tunesmith_api.manifests import LoadedFineTuneJob, LoadedInferenceWorkspace
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_backend.interface.protocol import Kind, Object, ObjectRef, ref_of
from tunesmith_backend.local.store import StatusFile, object_folder, write_file

# Names of objects never begin with a dot.
_CONFIG_MAPS = ".config-maps"


@dataclass(frozen=True)
class Stored:
    """An object as it was applied.

    Attributes:
        base: Folder that relative paths are relative to.
        manifest: The object, without a status.
    """

    base: Path
    manifest: Object


def stored_of(item: LoadedFineTuneJob | LoadedInferenceWorkspace) -> Stored:
    """Return an object of a manifest as it is stored, with its namespace."""
    plain = item.document.plain()
    assert isinstance(plain, dict)  # noqa: S101 - only such documents are loaded
    metadata = {**plain["metadata"], "namespace": ref_of(item).namespace}
    return Stored(item.source.file.resolve().parent, {**plain, "metadata": metadata})


class ObjectFolder:
    """The objects below a folder, as `NAMESPACE/NAME/KIND.json`, beside the files that running them writes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, ref: ObjectRef) -> Path:
        """Return the work folder of an object."""
        return object_folder(self.root, ref.namespace, ref.name)

    def log(self, ref: ObjectRef, name: str) -> Path:
        """Return a log of an object. Its name is a stage's name, or `server`."""
        return self.folder(ref) / "logs" / f"{name}.log"

    def put(self, ref: ObjectRef, stored: Stored) -> None:
        """Write an object, if it differs from what is there."""
        if self.find(ref) != stored:
            write_json(self._path(ref), {"base": str(stored.base), "object": stored.manifest}, sync=False)

    def find(self, ref: ObjectRef) -> Stored | None:
        """Return an object as it was applied, or None."""
        found = read_json(self._path(ref))
        return Stored(Path(found["base"]), found["object"]) if found else None

    def read(self, ref: ObjectRef) -> Stored:
        """Return an object as it was applied.

        Raises:
            BackendError: There is none.
        """
        if (stored := self.find(ref)) is None:
            raise BackendError(f"there is no {ref}; apply its manifest first", ErrorKind.NOT_FOUND)
        return stored

    def get(self, ref: ObjectRef) -> Object:
        """Return an object with its status.

        Raises:
            BackendError: There is none.
        """
        status = StatusFile(self.folder(ref), ref.kind).status
        return {**self.read(ref).manifest, **({"status": status} if status else {})}

    def refs(self, kind: Kind, namespace: str | None) -> list[ObjectRef]:
        """Return the references of all objects of a kind, by namespace and name."""
        paths = self.root.glob(f"{namespace or '*'}/*/{kind.lower()}.json")
        found = [ObjectRef(kind, path.parent.name, path.parent.parent.name) for path in paths]
        return sorted(found, key=lambda ref: (ref.namespace, ref.name))

    def delete(self, ref: ObjectRef) -> None:
        """Delete an object and the files that running it wrote. An object of the other kind may share the folder."""
        folder = self.folder(ref)
        work = WorkFolder(folder)
        status = folder / f"{ref.kind.lower()}-status.json"
        if ref.kind == "FineTuneJob":
            paths = [*(work.stage(stage) for stage in Stage), *(work.outcome(stage) for stage in Stage)]
            paths += [*(self.log(ref, stage.value) for stage in Stage), work.artifact, work.config_maps]
            paths += [work.config, work.progress, *work.checkpoint_artifacts()]
        else:
            paths = [folder / "artifacts", folder / ADAPTERS_FILE, self.log(ref, "server")]
        for path in (*paths, status, self._path(ref)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def put_config_map(self, namespace: str, name: str, contents: dict[str, bytes]) -> None:
        """Write a ConfigMap, replacing its earlier content."""
        folder = self.root / namespace / _CONFIG_MAPS / name
        for path in folder.glob("*"):
            if path.name not in contents:
                path.unlink()
        for key, content in contents.items():
            write_file(folder / key, content)

    def config_maps(self, namespace: str) -> dict[tuple[str, str], dict[str, bytes]]:
        """Return the ConfigMaps of a namespace."""
        folders = (self.root / namespace / _CONFIG_MAPS).glob("*")
        return {(namespace, path.name): {file.name: file.read_bytes() for file in path.iterdir()} for path in folders}

    def _path(self, ref: ObjectRef) -> Path:
        return self.folder(ref) / f"{ref.kind.lower()}.json"
