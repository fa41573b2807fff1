"""Reads the lines of a UTF-8 text file, and checks their encoding and length."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from tunesmith_trainer.data.compression import open_decompressed
from tunesmith_trainer.data.errors import dataset_error

MAX_ROW_BYTES = 16 << 20
PIECE_BYTES = 1 << 20

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
        raise _not_utf8(location, error.start, data[error.start]) from None


def _not_utf8(location: str, index: int, byte: int) -> Exception:
    return dataset_error(
        location,
        f"byte {index + 1} (0x{byte:02x}) is not UTF-8",
        "Save the file as UTF-8, for example: iconv -f latin1 -t utf-8 OLD > NEW",
    )


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


def read_pieces(path: Path, name: str) -> Iterator[str]:
    """Yield a text file in pieces of at most 1 MiB; a byte order mark is removed. Lines may be of any length.

    Args:
        path: The file.
        name: Name of the file in messages.

    Raises:
        StageError: The file is not UTF-8, or contains a NUL byte.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    number, before = 1, 0  # the line, and its bytes in earlier pieces
    with open_decompressed(path, name) as file:
        while piece := file.readline(PIECE_BYTES):
            if number == 1 and before == 0:
                check_encoding(piece, name)
                piece = piece.removeprefix(codecs.BOM_UTF8)
            if b"\0" in piece:
                raise _nul_byte(piece, name, number, before)
            begun = len(decoder.getstate()[0])
            try:
                yield decoder.decode(piece)
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                raise _not_utf8(f"{name}:{number}", before - begun + error.start, byte) from None
            number, before = (number + 1, 0) if piece.endswith(b"\n") else (number, before + len(piece))
        if cut := decoder.getstate()[0]:
            raise _not_utf8(f"{name}:{number}", before - len(cut), cut[0])


def _nul_byte(line: bytes, name: str, number: int, before: int = 0) -> Exception:
    """Return the error for a line, or for a piece of one after some bytes, with a NUL byte."""
    if line.count(b"\0") * 3 > len(line):
        return dataset_error(
            name,
            "every second byte is NUL: the file seems to be UTF-16, not UTF-8",
            "Save it as UTF-8, for example: iconv -f utf-16 -t utf-8 OLD > NEW",
        )
    column = before + line.index(b"\0") + 1
    return dataset_error(
        f"{name}:{number}", f"byte {column} is a NUL byte", "Remove it, for example: tr -d '\\000' < OLD > NEW"
    )


def too_long(location: str) -> Exception:
    """Return the error for a row above the limit."""
    return dataset_error(
        location, f"the row is longer than {MAX_ROW_BYTES >> 20} MiB", "Split it into several rows, or remove it"
    )
