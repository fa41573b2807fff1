"""Opens files that are compressed with gzip or Zstandard. The content decides, not the name."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from tunesmith_trainer.data.errors import dataset_error

ENDINGS = (".gz", ".zst")

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_UNSUPPORTED = {
    b"BZh": ("bzip2", "Decompress it (bunzip2 FILE), or compress it with gzip or zstd"),
    b"\xfd7zXZ\x00": ("xz", "Decompress it (xz -d FILE), or compress it with gzip or zstd"),
    b"PK\x03\x04": ("ZIP (a ZIP archive or an Excel workbook)", "Unpack it, or save the sheet as CSV"),
}


def plain_name(name: str) -> str:
    """Return a file's name without the extension of its compression."""
    path = PurePosixPath(name)
    return name[: -len(path.suffix)] if path.suffix.lower() in ENDINGS else name


def is_compressed(path: Path) -> bool:
    """Return whether a file is compressed with gzip or Zstandard."""
    with path.open("rb") as file:
        return file.read(4).startswith((_GZIP, _ZSTD))


@contextmanager
def open_decompressed(path: Path, name: str) -> Iterator[BinaryIO]:
    """Open a file for reading bytes, decompressed if it is compressed.

    Args:
        path: The file.
        name: Name of the file in messages.

    Raises:
        StageError: The compression is not supported, or the compressed data is damaged.
    """
    with path.open("rb") as file:
        magic = file.read(6)
        file.seek(0)
        for start, (kind, remedy) in _UNSUPPORTED.items():
            if magic.startswith(start):
                raise dataset_error(name, f"the file is compressed as {kind}, which is not supported", remedy)
        if not magic.startswith((_GZIP, _ZSTD)):
            yield file
            return
        try:
            yield _gzip(file) if magic.startswith(_GZIP) else _zstd(path)
        except (EOFError, zlib.error, OSError) as error:
            problem = " ".join(str(error).split())[:200]
            raise dataset_error(
                name, f"the compressed file is damaged: {problem}", "Copy the file again, or compress it anew"
            ) from None


def _gzip(file: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, gzip.GzipFile(fileobj=file))


def _zstd(path: Path) -> BinaryIO:
    import pyarrow

    return cast(BinaryIO, io.BufferedReader(pyarrow.input_stream(path, compression="zstd")))
