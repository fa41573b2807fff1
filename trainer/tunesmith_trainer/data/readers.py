"""Reads the rows of a file of any known kind as `(location, row)` pairs."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tunesmith_trainer.data.compression import ENDINGS, is_compressed, open_decompressed, plain_name
from tunesmith_trainer.data.csv_reader import read_csv, read_tsv
from tunesmith_trainer.data.errors import dataset_error
from tunesmith_trainer.data.json_reader import read_json_array, read_jsonl
from tunesmith_trainer.data.lines import check_encoding
from tunesmith_trainer.data.parquet_reader import read_parquet

Rows = Iterator[tuple[str, dict[str, Any]]]

READERS: dict[str, Callable[[Path, str], Rows]] = {
    "jsonl": read_jsonl,
    "json": read_json_array,
    "csv": read_csv,
    "tsv": read_tsv,
    "parquet": read_parquet,
}

_ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_HEAD = 1 << 16


def has_known_ending(name: str) -> bool:
    """Return whether a file's name says that it holds rows: .jsonl, .csv.gz, ..."""
    return Path(plain_name(name)).suffix.lower() in _ENDINGS


def kind_of(path: Path, name: str) -> str:
    """Return the kind of a file (a key of `READERS`), by its extension or else by its content.

    A .json file with one object per line is read as jsonl.

    Raises:
        StageError: The file is empty, or of no known kind.
    """
    with open_decompressed(path, name) as file:
        head = file.read(_HEAD)
    if not head.removeprefix(codecs.BOM_UTF8).strip():
        raise dataset_error(name, "the file is empty", "Write at least two rows into it, one JSON object a line")
    kind = _ENDINGS.get(Path(plain_name(name)).suffix.lower())
    if (kind == "parquet" or head.startswith(b"PAR1")) and is_compressed(path):
        raise dataset_error(
            name, "a Parquet file inside a compressed one cannot be read", "Decompress it (gunzip FILE, zstd -d FILE)"
        )
    if kind in ("jsonl", "csv", "tsv", "parquet"):
        return kind
    check_encoding(head, name)
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if text.startswith(b"PAR1"):
        return "parquet"
    if text.startswith(b"["):
        return "json"
    if text.startswith(b"{"):
        # One object per line, unless the first line is only the beginning of an object.
        return "jsonl" if text.split(b"\n", 1)[0].rstrip().endswith(b"}") and b"\n{" in text else "json"
    if kind:
        return kind
    raise dataset_error(
        name,
        "this is not a known kind of file",
        f"Give a file that ends in {', '.join(_ENDINGS)}, or in one of these and {' or '.join(ENDINGS)}",
    )


def read_rows(path: Path, name: str) -> Rows:
    """Yield `(location, row)` of every row of a file.

    Args:
        path: The file.
        name: Its name in messages. The extension decides how it is read.

    Raises:
        StageError: The file cannot be read, or has no rows.
    """
    empty = True
    for location, row in READERS[kind_of(path, name)](path, name):
        empty = False
        yield location, row
    if empty:
        raise dataset_error(name, "the file has no rows", "Write at least two rows into it")
