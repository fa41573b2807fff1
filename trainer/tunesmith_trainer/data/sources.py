"""Fetches the sources of a data set and checks their digests."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import ConfigMapKeyRef, DatasetSource
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.data.errors import dataset_error
from tunesmith_trainer.data.formats import RowParser
from tunesmith_trainer.data.hub import fetch_hub_dataset
from tunesmith_trainer.data.progress import Companion, Progress
from tunesmith_trainer.data.readers import read_rows
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.data.selection import is_selection, select_local, select_remote
from tunesmith_trainer.runtime.background import Proceed, run_together
from tunesmith_trainer.runtime.job_config import config_maps
from tunesmith_trainer.storage.downloads import Total, check_sha256, fetch_file, stoppable
from tunesmith_trainer.storage.files import sha256_file
from tunesmith_trainer.storage.uris import local_path, public, scheme_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceFile:
    """A local file of a source.

    Attributes:
        name: Its name in messages and in the manifest.
        path: The local file.
        sha256: Its digest in hexadecimal.
        revision: The commit of a file from the Hugging Face hub.
    """

    name: str
    path: Path
    sha256: str
    revision: str | None = None


def locate(source: DatasetSource, work: WorkFolder, slot: str, beside: Companion | None = None) -> list[SourceFile]:
    """Return the local files of a source. Remote files are fetched into the prepare stage's folder.

    Args:
        source: The source.
        work: The job's work folder.
        slot: A file name that is unique within the job.
        beside: What goes on at the same time.

    Raises:
        StageError: A file does not exist, cannot be fetched, or its SHA-256 does not match.
    """
    files, commit = _files(source, work, slot, beside)
    if source.sha256 and len(files) > 1:
        raise StageError(
            Reason.INVALID_SPEC,
            f"{source.uri}: sha256 is given, but these are {len(files)} files",
            "Remove sha256, or name one file",
        )
    found = []
    for name, path in files:
        try:
            if source.sha256:
                check_sha256(name, path, source.sha256, Reason.INVALID_DATASET)
            found.append(SourceFile(name, path, sha256_file(path), commit))
        except OSError as error:
            raise dataset_error(name, f"cannot be read: {error.strerror}", "Check the file's permissions") from None
    return found


def _files(
    source: DatasetSource, work: WorkFolder, slot: str, beside: Companion | None
) -> tuple[list[tuple[str, Path]], str | None]:
    """Return the `(name, path)` of each file of a source, and the commit of a data set on the hub."""
    if source.config_map_key_ref is not None:
        return [_config_map(source.config_map_key_ref, work)], None
    uri = source.uri or ""
    if scheme_of(uri) == "hf":
        return fetch_hub_dataset(source, work, slot, beside)
    if not is_selection(uri):
        path = local_path(uri) or _fetch([uri], work, [slot], beside)[0]
        if not path.is_file():
            raise dataset_error(
                public(uri), "no such file", "Correct spec.dataset: give the path of a file or a folder, or a pattern"
            )
        return [(public(uri), path)], None
    if local_path(uri) is not None:
        return [(str(path), path) for path in select_local(uri)], None
    remote = select_remote(uri)
    # Not their place in the listing, which changes with files that come and go.
    names = [hashlib.sha256(uri.encode()).hexdigest()[:16] for uri in remote]
    paths = _fetch(remote, work, [f"{slot}/{name}" for name in names], beside)
    return list(zip(map(public, remote), paths, strict=True)), None


def _fetch(uris: list[str], work: WorkFolder, slots: list[str], beside: Companion | None) -> list[Path]:
    """Fetch remote files into the prepare stage's folder, several at a time, and return their paths."""
    paths = [work.stage(Stage.PREPARE) / "sources" / slot for slot in slots]
    what = public(uris[0]) if len(uris) == 1 else f"{len(uris)} files"
    with Progress(work, f"fetching {what}", None, "bytes", beside) as progress:
        total = Total(progress.update, None)

        def fetch(uri: str, path: Path, proceed: Proceed) -> None:
            fetch_file(uri, path, report=stoppable(total.of(uri), proceed), newest=True)

        run_together([partial(fetch, uri, path) for uri, path in zip(uris, paths, strict=True)])
    return paths


def _config_map(ref: ConfigMapKeyRef, work: WorkFolder) -> tuple[str, Path]:
    """Return a ConfigMap's key as `(name, path)`."""
    folder = config_maps(work) / ref.name
    path, name = folder / ref.key, f"{ref.name}/{ref.key}"
    if not folder.is_dir():
        raise StageError(
            Reason.INVALID_DATASET,
            f"ConfigMap {ref.name}: not found",
            "Add the ConfigMap to the manifests, or correct configMapKeyRef.name",
        )
    if not path.is_file():
        keys = ", ".join(sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))) or "none"
        raise StageError(
            Reason.INVALID_DATASET,
            f"ConfigMap {ref.name}: there is no key {ref.key} (its keys: {keys})",
            "Correct configMapKeyRef.key",
        )
    return name, path


@dataclass
class Dataset:
    """The rows of all sources, one file after another. It can be iterated repeatedly.

    Attributes:
        files: The sources.
        parser: Parses the rows; one format for all files.
        counts: Number of rows in each file, filled while iterating.
    """

    files: list[SourceFile]
    parser: RowParser

    def __post_init__(self) -> None:
        self.counts: list[int] = [0] * len(self.files)

    def __iter__(self) -> Iterator[Row]:
        for index, file in enumerate(self.files):
            self.counts[index] = 0
            for location, fields in read_rows(file.path, file.name):
                for row in self.parser.rows(location, fields):
                    self.counts[index] += 1
                    yield row
