"""The file systems that files can be stored in: a folder, s3://, abfs:// and gs://, all through fsspec."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec

from tunesmith_api.local.s3 import s3_options

SCHEMES = ("s3", "abfs", "abfss", "az", "gs", "gcs", "memory")


_BUFFER = 1 << 20


def open_to_read(files: Any, path: str) -> BinaryIO:  # noqa: ANN401 - an fsspec file system, which has no types
    """Open a file of a file system. Lines of a file of S3 would else be read with a request for each byte.

    Raises:
        FileNotFoundError: It is not there.
        OSError: The storage does not answer.
    """
    return cast(BinaryIO, io.BufferedReader(files.open(path, "rb"), _BUFFER))


def open_filesystem(uri: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URI or a folder, and the path in it.

    Raises:
        ValueError: The URI is of another kind of storage.
    """
    scheme, mark, rest = uri.partition("://")
    if not mark or scheme == "file":
        return fsspec.filesystem("file"), str(Path(rest if mark else uri).absolute())
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ValueError(f"files: {scheme}:// is not a known kind of storage; write a folder, or {known}")
    if scheme == "s3":
        return _s3(), rest.strip("/")
    file_system, path = fsspec.core.url_to_fs(uri)
    return file_system, path.rstrip("/")


def _s3() -> Any:  # noqa: ANN401 - an fsspec file system, which has no types
    """Return S3 by Arrow's client, as the jobs' stages use it; AWS_* variables are honoured."""
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    options: dict[str, Any] = {
        **s3_options(),
        "retry_strategy": AwsStandardS3RetryStrategy(max_attempts=3),
        "allow_delayed_open": True,  # small files go up in one request
        "background_writes": False,  # what waits to be sent would have no limit
    }
    return ArrowFSWrapper(S3FileSystem(**options), skip_instance_cache=True)
