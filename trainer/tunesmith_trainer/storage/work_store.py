"""A job's work under a prefix of an object store, for stages that share no volume.

A stage downloads the results of the earlier stages into its own, empty work folder, and uploads its own result. Each
result is a snapshot: files by their paths in the work folder, and a completion marker, uploaded last. Checkpoints are
snapshots too, one for each node that wrote a shard. Layout: `PREFIX/prepare/`, `PREFIX/train/`, `PREFIX/publish/`,
`PREFIX/checkpoint-STEP/` and `PREFIX/checkpoint-STEP.NODE/`, and `PREFIX/artifact/` if the job names no output.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from tunesmith_api.contract import WORK_URI
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.work_folder import MEASURED, STAGE_INPUTS, STAGE_MARKER, Stage, WorkFolder
from tunesmith_trainer.runtime.progress_report import report_progress
from tunesmith_trainer.storage import filesystems as storage
from tunesmith_trainer.storage.completion import MARKER, Files, file_problem, parse_files, write_marker
from tunesmith_trainer.storage.downloads import fetch_folder
from tunesmith_trainer.storage.files import link_tree, sha256_tree

log = logging.getLogger(__name__)

_STAGE_FILES = (STAGE_MARKER, STAGE_INPUTS, MEASURED)

# Not uploaded, as later stages do not read it: raw sources, compiled kernels, and what is uploaded by itself.
_LEFT_OUT = {
    Stage.PREPARE: ("sources",),
    Stage.TRAIN: ("checkpoints", "cache"),
    Stage.PUBLISH: ("artifact", "onnx", "merged", "adapter", "base", "base_nf4", "checkpoints"),
}


def work_store(work: WorkFolder) -> WorkStore | None:
    """Return the object store that holds the job's work, or None if the stages share the work folder itself."""
    uri = os.environ.get(WORK_URI)
    return WorkStore(uri, work) if uri else None


class WorkStore:
    """The snapshots of one job.

    Attributes:
        uri: The prefix.
        work: The local work folder.
    """

    def __init__(self, uri: str, work: WorkFolder) -> None:
        self.uri = uri.rstrip("/")
        self.work = work

    def download(self, stage: Stage) -> bool:
        """Download what a stage needs, and return whether the stage is complete already.

        For a complete stage, download only the stages' markers; it need not be uploaded again.

        Raises:
            StageError: SOURCE_UNAVAILABLE: the store cannot be read at the moment. OUTPUT_FAILED: access is denied, or
                the content is not what was uploaded.
        """
        is_complete = self.is_complete(stage)
        for earlier in list(Stage)[: list(Stage).index(stage)]:
            self.download_snapshot(earlier.value, _is_stage_file if is_complete else None)
        return is_complete

    def is_complete(self, stage: Stage) -> bool:
        """Return whether a stage is complete. If it is, its marker is then in the work folder.

        Raises:
            StageError: As for `download`.
        """
        return self.download_snapshot(stage.value, _is_stage_file)

    def upload(self, stage: Stage) -> None:
        """Upload the result of a complete stage."""
        folder = self.work.stage(stage)
        files = {
            f"{stage.value}/{path.relative_to(folder).as_posix()}": path
            for path in sorted(folder.rglob("*"))
            if path.is_file()
            and path.relative_to(folder).parts[0] not in _LEFT_OUT[stage]
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        }
        self.upload_files(stage.value, files, self._report(stage))

    def upload_files(self, name: str, files: Mapping[str, Path], report: storage.Report | None = None) -> None:
        """Upload files as a snapshot. Does nothing if the same snapshot is there already.

        Args:
            name: The snapshot's name.
            files: Each file by its path in the work folder.
            report: Called after each file with the bytes so far and in all.

        Raises:
            StageError: OUTPUT_FAILED: it cannot be uploaded.
            FileNotFoundError: One of the files does not exist.
        """
        snapshot = self.work.root / f".{name}.outgoing"
        shutil.rmtree(snapshot, ignore_errors=True)
        try:
            for path, source in files.items():
                link_tree(source, snapshot / path)
            self.upload_folder(name, snapshot, report)
        finally:
            shutil.rmtree(snapshot, ignore_errors=True)

    def upload_folder(self, name: str, folder: Path, report: storage.Report | None = None) -> None:
        """Upload a folder as a snapshot. Nothing else may change the folder; the completion marker is written into it.

        Args:
            name: The snapshot's name.
            folder: Holds each file by its path in the work folder.
            report: Called after each file with the bytes so far and in all.

        Raises:
            StageError: OUTPUT_FAILED: it cannot be uploaded.
        """
        listed = sha256_tree(folder)
        uri = f"{self.uri}/{name}"
        there = self._files(name)
        if there == listed:
            log.info("%s exists already", uri)
            return
        if there is not None:
            storage.remove(uri, [MARKER])
        write_marker(folder, listed)
        storage.put_folder(folder, uri, last=MARKER, report=report)

    def download_snapshot(self, name: str, wanted: Callable[[str], bool] | None = None) -> bool:
        """Download a snapshot's files into the work folder, and return whether the snapshot exists and is complete.

        Args:
            name: The snapshot's name.
            wanted: Which files to download, by their paths in the work folder; all by default.

        Raises:
            StageError: SOURCE_UNAVAILABLE: it cannot be read at the moment. OUTPUT_FAILED: access is denied, or a file
                is not what was uploaded.
        """
        listed = self._files(name)
        if listed is None:
            return False
        names = [path for path in listed if wanted is None or wanted(path)]
        uri = f"{self.uri}/{name}"
        log.info("downloading %d files from %s", len(names), uri)
        if names:
            fetch_folder(uri, self.work.root, names=names, missing=Reason.OUTPUT_FAILED)
        for path in names:
            local = self.work.root / path
            if problem := file_problem(local, {"sha256": listed[path]["sha256"]}):
                local.unlink(missing_ok=True)
                raise _damaged(f"{uri}/{path} {problem}")
        return True

    def snapshots(self) -> list[str]:
        """Return the names of all complete snapshots."""
        found = storage.list_folder(self.uri, Reason.OUTPUT_FAILED)
        return sorted({path.partition("/")[0] for path in found if path.partition("/")[2] == MARKER})

    def delete_snapshot(self, name: str) -> None:
        """Delete a snapshot, its completion marker first."""
        uri = f"{self.uri}/{name}"
        found = storage.list_folder(uri, Reason.OUTPUT_FAILED)
        storage.remove(uri, sorted(found, key=lambda path: path != MARKER))

    def _files(self, name: str) -> Files | None:
        """Return the files of a complete snapshot, or None if there is none."""
        uri = f"{self.uri}/{name}/{MARKER}"
        if not storage.exists(uri):
            return None
        with storage.open_source(uri, Reason.OUTPUT_FAILED) as file:
            data = file.read()
        try:
            return parse_files(data)
        except ValueError:
            raise _damaged(f"{uri} cannot be read") from None

    def _report(self, stage: Stage) -> storage.Report:
        def report(done: int, total: int | None) -> None:
            detail = f"uploading {done / 1e6:.0f}/{(total or done) / 1e6:.0f} MB"
            report_progress(self.work, {"stage": stage.value, "detail": detail})

        return report


def _is_stage_file(path: str) -> bool:
    return PurePosixPath(path).name in _STAGE_FILES


def _damaged(what: str) -> StageError:
    remedy = "Something else has changed it: create the FineTuneJob anew, and keep others from writing there"
    return StageError(Reason.OUTPUT_FAILED, what, remedy)
