"""A job's work under a prefix of an object store, for stages that share no volume.

A stage brings what the stages before it have left into its own, empty work folder, and keeps what it leaves itself.
Each is a bundle: files by their paths in the work folder, and `complete.json` with the size and digest of each, which
is written last. Checkpoints are bundles too, one for each machine that wrote a part. Layout: `PREFIX/prepare/`,
`PREFIX/train/`, `PREFIX/publish/`, `PREFIX/checkpoint-STEP/` and `PREFIX/checkpoint-STEP.MACHINE/`, and
`PREFIX/artifact/` where the job names no other output.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from tunesmith_api.contract import WORK_URI
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.work_folder import STAGE_INPUTS, STAGE_MARKER, Stage, WorkFolder
from tunesmith_trainer.runtime.progress_report import report_progress
from tunesmith_trainer.storage import filesystems as storage
from tunesmith_trainer.storage.files import link_tree, sha256_file, sha256_tree, write_json

log = logging.getLogger(__name__)

SEAL = "complete.json"
_MARKERS = (STAGE_MARKER, STAGE_INPUTS)

# What the next stages do not read: raw sources, compiled kernels, and what is a bundle of its own.
_LEFT_OUT = {
    Stage.PREPARE: ("sources",),
    Stage.TRAIN: ("checkpoints", "cache"),
    Stage.PUBLISH: ("artifact", "onnx", "merged", "adapter"),
}


def work_store(work: WorkFolder) -> WorkStore | None:
    """Return where the work is kept between the stages, or None where they share the folder itself."""
    uri = os.environ.get(WORK_URI)
    return WorkStore(uri, work) if uri else None


class WorkStore:
    """The bundles of one job.

    Attributes:
        uri: The prefix.
        work: The work folder on this machine.
    """

    def __init__(self, uri: str, work: WorkFolder) -> None:
        self.uri = uri.rstrip("/")
        self.work = work

    def bring(self, stage: Stage) -> bool:
        """Bring what a stage needs, and return whether it is complete already.

        Of a complete stage only what says so is brought, so that it is found to be; it is not to be kept again.

        Raises:
            StageError: SOURCE_UNAVAILABLE: the store cannot be read just now. OUTPUT_FAILED: it may not be read, or
                what it holds is another than what was written.
        """
        is_complete = self.is_complete(stage)
        for earlier in list(Stage)[: list(Stage).index(stage)]:
            self.get(earlier.value, _is_marker if is_complete else None)
        return is_complete

    def is_complete(self, stage: Stage) -> bool:
        """Return whether a stage is complete; what says so is then in the work folder.

        Raises:
            StageError: As `bring` does.
        """
        return self.get(stage.value, _is_marker)

    def keep(self, stage: Stage) -> None:
        """Keep what a complete stage has left."""
        folder = self.work.stage(stage)
        files = {
            f"{stage.value}/{path.relative_to(folder).as_posix()}": path
            for path in sorted(folder.rglob("*"))
            if path.is_file()
            and path.relative_to(folder).parts[0] not in _LEFT_OUT[stage]
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        }
        self.put(stage.value, files, self._report(stage))

    def put(self, name: str, files: Mapping[str, Path], report: storage.Report | None = None) -> None:
        """Write a bundle; nothing is done where it is there already.

        Args:
            name: Its name.
            files: Each file by its path in the work folder.
            report: Called after each file with the bytes so far and in all.

        Raises:
            StageError: OUTPUT_FAILED: it cannot be written.
            FileNotFoundError: One of the files is gone.
        """
        snapshot = self.work.root / f".{name}.outgoing"
        shutil.rmtree(snapshot, ignore_errors=True)
        try:
            for path, source in files.items():
                link_tree(source, snapshot / path)
            self.put_folder(name, snapshot, report)
        finally:
            shutil.rmtree(snapshot, ignore_errors=True)

    def put_folder(self, name: str, folder: Path, report: storage.Report | None = None) -> None:
        """Write a bundle of all files of a folder that nothing else changes; its seal is written there too.

        Args:
            name: Its name.
            folder: Holds each file by its path in the work folder.
            report: Called after each file with the bytes so far and in all.

        Raises:
            StageError: OUTPUT_FAILED: it cannot be written.
        """
        listed = sha256_tree(folder)
        uri = f"{self.uri}/{name}"
        there = self._seal(name)
        if there == listed:
            log.info("%s is there already", uri)
            return
        if there is not None:
            storage.remove(uri, [SEAL])
        write_json(folder / SEAL, {"files": listed})
        storage.put_folder(folder, uri, last=SEAL, report=report)

    def get(self, name: str, wanted: Callable[[str], bool] | None = None) -> bool:
        """Bring a bundle's files into the work folder, and return whether there is such a bundle.

        Args:
            name: Its name.
            wanted: Which files to bring, by their paths in the work folder; all of them by default.

        Raises:
            StageError: SOURCE_UNAVAILABLE: it cannot be read just now. OUTPUT_FAILED: it may not be read, or holds
                other files than were written.
        """
        listed = self._seal(name)
        if listed is None:
            return False
        names = [path for path in listed if wanted is None or wanted(path)]
        uri = f"{self.uri}/{name}"
        log.info("bringing %d files from %s", len(names), uri)
        if names:
            storage.fetch_folder(uri, self.work.root, names=names, missing=Reason.OUTPUT_FAILED)
        for path in names:
            local = self.work.root / path
            if not local.is_file():
                raise _damaged(f"{uri}/{path} is missing")
            if sha256_file(local) != listed[path]["sha256"]:
                local.unlink()
                raise _damaged(f"{uri}/{path} has other content than was written")
        return True

    def names(self) -> list[str]:
        """Return the names of all complete bundles."""
        found = storage.list_folder(self.uri, Reason.OUTPUT_FAILED)
        return sorted({path.partition("/")[0] for path in found if path.partition("/")[2] == SEAL})

    def remove(self, name: str) -> None:
        """Remove a bundle, its seal first."""
        uri = f"{self.uri}/{name}"
        found = storage.list_folder(uri, Reason.OUTPUT_FAILED)
        storage.remove(uri, sorted(found, key=lambda path: path != SEAL))

    def _seal(self, name: str) -> dict[str, Any] | None:
        """Return `{path: {size, sha256}}` of a complete bundle's files, or None when there is none."""
        uri = f"{self.uri}/{name}/{SEAL}"
        if not storage.exists(uri):
            return None
        with storage.open_source(uri, Reason.OUTPUT_FAILED) as file:
            data = file.read()
        try:
            return dict(json.loads(data)["files"])
        except (ValueError, KeyError, TypeError):
            raise _damaged(f"{uri} cannot be read") from None

    def _report(self, stage: Stage) -> storage.Report:
        def report(done: int, total: int | None) -> None:
            detail = f"keeping {done / 1e6:.0f}/{(total or done) / 1e6:.0f} MB"
            report_progress(self.work, {"stage": stage.value, "detail": detail})

        return report


def _is_marker(path: str) -> bool:
    return PurePosixPath(path).name in _MARKERS


def _damaged(what: str) -> StageError:
    remedy = "Something else has changed it: create the FineTuneJob anew, and keep others from writing there"
    return StageError(Reason.OUTPUT_FAILED, what, remedy)
