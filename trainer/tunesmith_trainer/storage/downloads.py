"""Copies files from where they are to the local disk. A copy that breaks off goes on where it stopped.

What has come is in `.NAME.part` until the file is whole, and `.NAME.part.json` names the source's version.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.runtime.background import Proceed, run_together
from tunesmith_trainer.runtime.disk import disk_full, free_bytes
from tunesmith_trainer.storage.errors import translate_errors
from tunesmith_trainer.storage.files import read_json, sha256_file, write_json
from tunesmith_trainer.storage.filesystems import Report, list_folder, open_filesystem
from tunesmith_trainer.storage.uris import public, scheme_of

log = logging.getLogger(__name__)

CHUNK = 8 << 20  # bytes that are read at a time: a request each, in some stores
# What says which version of a file a file system has.
_VERSION = ("ETag", "etag", "generation", "md5Hash", "Content-MD5", "Last-Modified", "last_modified", "mtime")


class Total:
    """Adds up the progress of several files, which come at the same time."""

    def __init__(self, report: Report | None, total: int | None) -> None:
        self._report, self._total = report, total
        self._done: dict[str, int] = {}
        self._lock = threading.Lock()

    def of(self, name: str) -> Report:
        """Return the report of one file."""

        def report(done: int, _: int | None) -> None:
            with self._lock:
                self._done[name] = done
                if self._report:
                    self._report(sum(self._done.values()), self._total)

        return report


def part_of(target: Path) -> Path:
    """Return the file that holds what has come of a file."""
    return target.with_name(f".{target.name}.part")


def fetch_file(
    uri: str,
    target: Path,
    *,
    sha256: str | None = None,
    missing: Reason = Reason.INVALID_DATASET,
    report: Report | None = None,
    newest: bool = False,
) -> Path:
    """Copy a file to `target`, which is whole or absent at any moment.

    Args:
        uri: A path or URI.
        target: The local file. If it exists, nothing is fetched unless `newest` is set, but its digest is checked.
        sha256: The digest that the file must have, in hexadecimal.
        missing: The reason of the error if it does not exist or access is denied.
        report: Called repeatedly with the bytes so far and in total. If it raises an error, the copy stops.
        newest: Whether a file that was fetched before is fetched again if it has changed since, as far as the store
            tells versions apart.

    Raises:
        StageError: The file cannot be fetched, or its SHA-256 does not match.
    """
    if newest and target.exists():
        with translate_errors(uri, missing):
            fs, path = open_filesystem(uri)
            if (version := _version(fs.info(path))) is not None and read_json(_version_of(target)) != version:
                target.unlink()
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with translate_errors(uri, missing):
            fs, path = open_filesystem(uri)
            _download(fs, path, target, report, keep_version=newest)
    if sha256:
        check_sha256(uri, target, sha256, missing)
    return target


def check_sha256(uri: str, path: Path, sha256: str, reason: Reason) -> None:
    """Raise a StageError if the digest of the file at `path`, fetched from `uri`, does not match."""
    found = sha256_file(path)
    if found != sha256:
        raise StageError(
            reason,
            f"{public(uri)}: sha256 is {found}, not {sha256}",
            "The file has changed: use the one that was meant, or write its own sha256",
        )


def _version_of(target: Path) -> Path:
    """Return the file that says which version of a file was fetched."""
    return target.with_name(f".{target.name}.version.json")


def _download(
    fs: Any,  # noqa: ANN401 - an fsspec file system
    path: str,
    target: Path,
    report: Report | None,
    *,
    keep_version: bool = False,
) -> None:
    """Copy one file of a file system to a local path, or the rest of it."""
    info = fs.info(path)
    if info.get("type") == "directory":
        raise IsADirectoryError("it is a folder, not a file")
    size, version = info.get("size"), _version(info)
    part = part_of(target)
    about = part.with_name(f"{part.name}.json")
    done = part.stat().st_size if version and part.exists() and read_json(about) == version else 0
    if version and not done:
        write_json(about, version, sync=False)
    source, done = _open_at(fs, path, done if done < (size or 0) else 0, size)
    if done:
        log.info("%s: going on after %d of %d bytes", public(path), done, size)
    try:
        with source, part.open("r+b" if done else "wb") as file:
            file.seek(done)
            while chunk := source.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                if report:
                    report(done, size)
        if isinstance(size, int) and done != size:
            raise TimeoutError(f"connection timed out after {done} of {size} bytes")
        if version and done > CHUNK and _version(fs.info(path)) != version:
            part.unlink()
            raise TimeoutError("it was changed while it was read")
    except BaseException:
        if version is None:  # the rest could be of another version
            part.unlink(missing_ok=True)
        raise
    if keep_version and version:  # first: a file without it is fetched again
        write_json(_version_of(target), version, sync=False)
    part.replace(target)
    about.unlink(missing_ok=True)


def _version(info: Mapping[str, Any]) -> dict[str, str] | None:
    """Return what tells a version of a file from others; None if the file system does not say."""
    if not isinstance(info.get("size"), int):
        return None
    found = {name: str(info[name]) for name in _VERSION if info.get(name) is not None}
    return {"size": str(info["size"]), **found} if found else None


def _open_at(fs: Any, path: str, start: int, size: int | None) -> tuple[Any, int]:  # noqa: ANN401 - an fsspec file system
    """Return a file that is read from a place, and the place: 0 if its server sends whole files only."""
    if scheme_of(path) not in ("http", "https"):
        file = fs.open(path, "rb")
        file.seek(start)
        return file, start
    # In one request, where fsspec would send one for each block.
    options = {"headers": {"Range": f"bytes={start}-"}, "size": size} if start else {}
    file = fs.open(path, "rb", block_size=0, **options)
    return file, start if file.r.status == HTTPStatus.PARTIAL_CONTENT else 0


def fetch_folder(
    uri: str,
    target: Path,
    *,
    names: Sequence[str] | None = None,
    missing: Reason = Reason.MODEL_NOT_FOUND,
    report: Report | None = None,
) -> Path:
    """Copy the files of a folder below `target`, several at a time. Existing files of the right size are kept.

    Args:
        uri: A folder.
        target: The local folder.
        names: Relative paths of the files to copy; all of them by default.
        missing: The reason of the error if there is no such folder.
        report: Called repeatedly with the bytes so far and in total. If it raises an error, the copies stop.

    Raises:
        StageError: There is no such folder, a file cannot be fetched, or the disk is too small.
    """
    sizes = list_folder(uri, missing)
    wanted = [name for name in sizes if names is None or name in names]
    if not wanted:
        raise StageError(missing, f"{uri}: no such folder, or it is empty", "Check the path or URI")
    total = Total(report, sum(sizes[name] for name in wanted))
    for name in wanted:
        if (target / name).exists() and (target / name).stat().st_size != sizes[name]:
            (target / name).unlink()
    require_space(target, sum(left_of(sizes[name], target / name, part_of(target / name)) for name in wanted))

    def fetch(name: str, proceed: Proceed) -> None:
        onward = stoppable(total.of(name), proceed)
        fetch_file(f"{uri.rstrip('/')}/{name}", target / name, missing=missing, report=onward)
        onward(sizes[name], None)

    run_together([partial(fetch, name) for name in wanted])
    return target


def stoppable(report: Report, proceed: Proceed) -> Report:
    """Return a report that also stops when it has to."""

    def onward(done: int, total: int | None) -> None:
        proceed()
        report(done, total)

    return onward


def require_space(folder: Path, needed: int) -> None:
    """Fail if a disk has too little room for the bytes that are still to come.

    Raises:
        StageError: DISK_FULL.
    """
    if needed > free_bytes(folder):
        raise disk_full(folder, needed, "to download")


def left_of(size: int, target: Path, part: Path) -> int:
    """Return how many bytes of a file are still to come, given the file and the part of it that has come."""
    if target.exists():
        return 0
    return size - min(size, part.stat().st_size) if part.exists() else size
