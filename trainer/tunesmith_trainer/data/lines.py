"""Reads the lines of a UTF-8 text file, and checks their encoding and length."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from tunesmith_trainer.data.compression import open_decompressed
from tunesmith_trainer.data.errors import dataset_error

MAX_ROW_BYTES = 16 << 20

_OTHER_BOMS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def decode(data: bytes, location: str) -> str:
    """Decode UTF-8.

    Raises:
        StageError: The bytes are not UTF-8. The message names the first bad byte.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise dataset_error(
            location,
            f"byte {error.start + 1} (0x{data[error.start]:02x}) is not UTF-8",
            "Save the file as UTF-8, for example: iconv -f latin1 -t utf-8 OLD > NEW",
        ) from None


def check_encoding(start: bytes, name: str) -> None:
    """Raise a StageError if a file begins with the byte order mark of UTF-16 or UTF-32."""
    for bom, encoding in _OTHER_BOMS.items():
        if start.startswith(bom):
            raise dataset_error(
                name,
                f"the file is {encoding}, not UTF-8",
                f"Save it as UTF-8, for example: iconv -f {encoding.lower()} -t utf-8 OLD > NEW",
            )


def read_lines(path: Path, name: str) -> Iterator[tuple[int, str]]:
    r"""Yield `(line number from 1, text)` of each line, line end included; a byte order mark is removed.

    Args:
        path: The file.
        name: Name of the file in messages.

    Raises:
        StageError: A line is not UTF-8, contains a NUL byte, or is longer than 16 MiB.
    """
    with open_decompressed(path, name) as file:
        number = 0
        while line := file.readline(MAX_ROW_BYTES + 1):
            number += 1
            if number == 1:
                check_encoding(line, name)
                line = line.removeprefix(codecs.BOM_UTF8)
            if len(line) > MAX_ROW_BYTES:
                raise too_long(f"{name}:{number}")
            if b"\0" in line:
                raise _nul_byte(line, name, number)
            yield number, decode(line, f"{name}:{number}")


def _nul_byte(line: bytes, name: str, number: int) -> Exception:
    """Return the error for a line with a NUL byte."""
    if line.count(b"\0") * 3 > len(line):
        return dataset_error(
            name,
            "every second byte is NUL: the file seems to be UTF-16, not UTF-8",
            "Save it as UTF-8, for example: iconv -f utf-16 -t utf-8 OLD > NEW",
        )
    column = line.index(b"\0") + 1
    return dataset_error(
        f"{name}:{number}", f"byte {column} is a NUL byte", "Remove it, for example: tr -d '\\000' < OLD > NEW"
    )


def too_long(location: str) -> Exception:
    """Return the error for a row above the limit."""
    return dataset_error(
        location, f"the row is longer than {MAX_ROW_BYTES >> 20} MiB", "Split it into several rows, or remove it"
    )
