"""Files and folders by URI: local paths, file://, s3://, abfs://, gs://, https://, memory://, all through fsspec."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from tunesmith_api.artifact import MANIFEST
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.local.s3 import s3_options
from tunesmith_trainer.storage.errors import translate_errors
from tunesmith_trainer.storage.uris import local_path, scheme_of

log = logging.getLogger(__name__)

Report = Callable[[int, int | None], None]
"""Called with the bytes so far and in total (None if unknown)."""

_SCHEMES = ("file", "s3", "abfs", "abfss", "az", "gs", "gcs", "http", "https", "memory")
_CHUNK = 1 << 20
_PROBE = ".tunesmith-probe"


def open_filesystem(uri: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URI and the path in it."""
    import fsspec

    scheme = scheme_of(uri)
    if scheme not in _SCHEMES:
        raise StageError(
            Reason.INVALID_SPEC,
            f"{uri}: {scheme}:// is not a known kind of storage",
            "Write a path, or a URI that starts with " + ", ".join(f"{s}://" for s in _SCHEMES),
        )
    if scheme == "file":
        return fsspec.filesystem("file"), str(local_path(uri))
    if scheme == "s3":
        return _s3(), uri.split("://", 1)[1].strip("/")
    if scheme in ("http", "https"):
        return fsspec.filesystem("http"), uri
    fs, path = fsspec.core.url_to_fs(uri)
    return fs, path.rstrip("/")


def _s3() -> Any:  # noqa: ANN401 - an fsspec file system, which has no types
    """Return S3 by Arrow's own client, which needs no aiobotocore; AWS_* variables are honoured."""
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    options: dict[str, Any] = {
        **s3_options(),
        "retry_strategy": AwsStandardS3RetryStrategy(max_attempts=3),
        "allow_delayed_open": True,  # small files go up in one request
    }
    return ArrowFSWrapper(S3FileSystem(**options), skip_instance_cache=True)


def exists(uri: str) -> bool:
    """Return whether there is a file or a folder at the URI.

    Raises:
        StageError: The store cannot be asked (no permission, no network).
    """
    with translate_errors(uri, Reason.OUTPUT_FAILED):
        fs, path = open_filesystem(uri)
        return bool(fs.exists(path))


@contextmanager
def open_source(uri: str, missing: Reason = Reason.INVALID_DATASET) -> Iterator[BinaryIO]:
    """Open a file for reading bytes.

    Args:
        uri: A path or URI; relative paths are relative to the current directory.
        missing: The reason of the error if it does not exist or access is denied.
    """
    with translate_errors(uri, missing):
        fs, path = open_filesystem(uri)
        with fs.open(path, "rb") as file:
            yield cast(BinaryIO, file)


def list_folder(uri: str, missing: Reason = Reason.MODEL_NOT_FOUND) -> dict[str, int]:
    """Return `{relative path: size in bytes}` of all files below a folder; empty when there is none."""
    with translate_errors(uri, missing):
        fs, root = open_filesystem(uri)
        found = fs.find(root, detail=True)
        prefix = root.strip("/") + "/"
        return {
            name.lstrip("/").removeprefix(prefix): info.get("size") or 0
            for name, info in sorted(found.items())
            if name.lstrip("/").startswith(prefix)
        }


def put_folder(local: Path, uri: str, *, last: str = MANIFEST, report: Report | None = None) -> None:
    """Copy a local folder's files to a URI, with one file last.

    A reader that waits for the last file never sees an incomplete folder: on a local disk each file appears whole, and
    object stores only ever show whole objects. It may be called again after a failure.

    Args:
        local: The folder to copy.
        uri: The target; missing folders are created.
        last: Relative path of the file that is written last, its presence meaning completeness.
        report: Called after each file with the bytes so far and in total.

    Raises:
        StageError: SOURCE_UNAVAILABLE: the store does not answer at the moment. DISK_FULL. OUTPUT_FAILED, for any other
            cause.
    """
    paths = sorted(path for path in local.rglob("*") if path.is_file())
    paths.sort(key=lambda path: path.relative_to(local).as_posix() == last)
    total, done = sum(path.stat().st_size for path in paths), 0
    try:
        with translate_errors(uri, Reason.OUTPUT_FAILED, "write"):
            fs, root = open_filesystem(uri)
            for path in paths:
                name = path.relative_to(local).as_posix()
                if (folder := local_path(uri)) is not None:
                    _put_local(path, folder / name)
                else:
                    # Not put_file: it creates folders first, which object stores do not have and may refuse.
                    with path.open("rb") as source, fs.open(f"{root}/{name}", "wb") as file:
                        shutil.copyfileobj(source, file, _CHUNK)
                done += path.stat().st_size
                if report:
                    report(done, total)
    except StageError as error:
        if error.reason in (Reason.SOURCE_UNAVAILABLE, Reason.DISK_FULL):
            raise
        raise StageError(Reason.OUTPUT_FAILED, error.message, error.remedy) from error


def probe(uri: str) -> None:
    """Write a small file into a folder of a store, and remove it.

    Raises:
        StageError: OUTPUT_FAILED: it cannot be written. SOURCE_UNAVAILABLE: the store does not answer at the moment.
    """
    with translate_errors(uri, Reason.OUTPUT_FAILED, "write"):
        fs, root = open_filesystem(uri)
        with fs.open(f"{root}/{_PROBE}", "wb") as file:
            file.write(b"tunesmith")
    try:
        remove(uri, [_PROBE])
    except StageError as error:  # some stores allow writing but not removing, which is all that delivery needs
        log.warning("%s/%s is left: %s", uri, _PROBE, error.message)


def remove(uri: str, names: Iterable[str]) -> None:
    """Remove files of a folder in the given order. Files that do not exist are ignored.

    Args:
        uri: The folder.
        names: Their relative paths.

    Raises:
        StageError: One cannot be removed.
    """
    with translate_errors(uri, Reason.OUTPUT_FAILED, "remove"):
        fs, root = open_filesystem(uri)
        for name in names:
            with suppress(FileNotFoundError):
                fs.rm_file(f"{root}/{name}")


def _put_local(path: Path, target: Path) -> None:
    """Copy a file to a local path atomically, and flush it to disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with path.open("rb") as source, temporary.open("wb") as file:
        shutil.copyfileobj(source, file, _CHUNK)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
