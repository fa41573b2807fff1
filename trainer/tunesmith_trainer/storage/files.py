"""Local files and folders: digests, hard links, and the removal of leftovers."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import digest_of_json
from tunesmith_api.local.files import read_json, write_atomic, write_json

__all__ = [
    "digest_of_tree",
    "link_tree",
    "read_json",
    "sha256_file",
    "sha256_tree",
    "sweep",
    "write_atomic",
    "write_json",
]

_CHUNK = 1 << 20


def sweep(folder: Path, pattern: str) -> None:
    """Remove temporary files and folders that killed processes left. No other process may be writing any.

    Args:
        folder: The folder to search; it may be absent.
        pattern: A pattern for `Path.glob`.
    """
    for path in list(folder.glob(pattern)):  # a list first: glob would descend into folders that are being removed
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_tree(folder: Path) -> dict[str, dict[str, Any]]:
    """Return `{relative path: {sha256, size}}` of every file below a folder, sorted by path."""
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256_file(path), "size": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def digest_of_tree(folder: Path) -> str:
    """Return the digest of every file below a folder, their names included."""
    return digest_of_json({name: entry["sha256"] for name, entry in sha256_tree(folder).items()})


def link_tree(source: Path, target: Path) -> None:
    """Hard-link a file, or every file below a folder; copy where the file system cannot link."""
    pairs = [(source, target)]
    if source.is_dir():
        files = [path for path in sorted(source.rglob("*")) if path.is_file()]
        pairs = [(path, target / path.relative_to(source)) for path in files]
    for path, new in pairs:
        new.parent.mkdir(parents=True, exist_ok=True)
        # Some libraries write files that only their owner may read, and the server runs as a different user.
        path.chmod(0o644)
        new.unlink(missing_ok=True)
        try:
            os.link(path.resolve(), new)
        except OSError:
            shutil.copyfile(path, new)
