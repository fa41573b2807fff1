"""Selects the files of a source that is a folder or a pattern, on the local disk or in an object store."""

from __future__ import annotations

import glob
import re
from collections.abc import Collection, Iterable
from fnmatch import translate
from pathlib import Path
from typing import TypeVar

from tunesmith_trainer.data.errors import dataset_error
from tunesmith_trainer.data.readers import has_known_ending
from tunesmith_trainer.storage.filesystems import list_folder
from tunesmith_trainer.storage.uris import local_path, public, scheme_of

_ENDINGS = ".jsonl, .json, .csv, .tsv or .parquet (or one of these and .gz or .zst)"
T = TypeVar("T")
_GLOB = re.compile(r"[*?\[]")


def is_selection(uri: str) -> bool:
    """Return whether a URI names a folder or a pattern rather than one file."""
    path = local_path(uri)
    if path is not None:
        return path.is_dir() or (bool(_GLOB.search(str(path))) and not path.exists())
    return scheme_of(uri) not in ("http", "https") and (uri.endswith("/") or bool(_GLOB.search(uri)))


def select_local(uri: str) -> list[Path]:
    """Return the files with rows in a local folder, or those that a pattern matches, sorted by name.

    Only files directly in a folder are taken, as `kubectl apply -f FOLDER` does. `**` in a pattern matches any number
    of folders.

    Raises:
        StageError: There is no such file.
    """
    path = local_path(uri)
    if path is None:
        raise ValueError(uri)
    if not path.is_dir():
        found = sorted(Path(name) for name in glob.iglob(str(path), recursive=True))
        return _require([file for file in found if file.is_file()], public(uri), "the pattern matches no file")
    files = [file for file in sorted(path.iterdir()) if file.is_file() and is_data_file(file.name)]
    if not files and (inner := next((file for file in sorted(path.rglob("*")) if is_data_file(file.name)), None)):
        raise dataset_error(
            public(uri),
            f"there is no file with rows directly in this folder, only below it ({inner.relative_to(path)})",
            f"Name the folder that holds the files, or write a pattern: {uri.rstrip('/')}/**/*{inner.suffix}",
        )
    return _require(files, public(uri), "there is no file with rows in this folder")


def select_remote(uri: str) -> list[str]:
    """Return the URIs of the files in a folder of an object store (`s3://bucket/folder/`), or of a pattern, sorted.

    Raises:
        StageError: There is no such file, or the store cannot be listed.
    """
    first = _GLOB.search(uri)
    folder = (uri[: first.start()].rpartition("/")[0] if first else uri).rstrip("/")
    names = list_folder(folder)
    if first:
        matching = match(uri[len(folder) + 1 :], names)
        return [f"{folder}/{name}" for name in _require(matching, uri, "the pattern matches no file")]
    files = [name for name in sorted(names) if "/" not in name and is_data_file(name)]
    return [f"{folder}/{name}" for name in _require(files, uri, "there is no file with rows in this folder")]


def match(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the relative paths that a pattern matches, sorted. `*` stays within a folder, `**` does not."""
    parts = []
    for part in re.split(r"(\*\*/|\*\*)", pattern):
        if part.startswith("**"):
            parts.append("(?:.*/)?" if part.endswith("/") else ".*")
        else:
            expression = re.sub(r"\\[zZ]$", "", translate(part)).removeprefix("(?s:").removesuffix(")")
            parts.append(expression.replace(".*", "[^/]*"))
    form = re.compile("".join(parts), re.DOTALL)
    return sorted(name for name in names if form.fullmatch(name))


def is_data_file(name: str) -> bool:
    """Return whether a file in a folder holds rows, by its name. Hidden files do not."""
    return has_known_ending(name) and not name.startswith((".", "_"))


def _require(files: Collection[T], name: str, problem: str) -> list[T]:
    if not files:
        raise dataset_error(name, problem, f"Correct spec.dataset; files with rows end in {_ENDINGS}")
    return list(files)
