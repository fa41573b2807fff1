"""Files that are whole or absent: atomic writes and digests."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def write_atomic(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write `data` to `path` so that a reader sees the old content or the new, never a part.

    Args:
        path: The file; its folder is made when missing.
        data: The content.
        sync: Whether to wait for the disk, so that the file also survives a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The first process of every container has the same number.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)


def sweep(folder: Path, pattern: str) -> None:
    """Remove the temporary files and folders that killed processes left, where nobody else writes any now.

    Args:
        folder: Where to look; it may be absent.
        pattern: What to look for, as for `Path.glob`.
    """
    for path in list(folder.glob(pattern)):  # all of them first, as glob would look into what is removed meanwhile
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_json(path: Path, value: Any, *, sync: bool = True) -> None:  # noqa: ANN401 - any JSON value
    """Write a JSON value atomically, indented and with a final newline."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(), sync=sync)


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """Return the JSON value of a file, or None when the file is absent or not whole."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


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


def link_tree(source: Path, target: Path) -> None:
    """Make a hard link, or a copy where that cannot be, of a file or of every file below a folder."""
    pairs = [(source, target)]
    if source.is_dir():
        files = [path for path in sorted(source.rglob("*")) if path.is_file()]
        pairs = [(path, target / path.relative_to(source)) for path in files]
    for path, new in pairs:
        new.parent.mkdir(parents=True, exist_ok=True)
        # Some libraries write files that only their owner may read; who serves an artifact is another.
        path.chmod(0o644)
        new.unlink(missing_ok=True)
        try:
            os.link(path.resolve(), new)
        except OSError:
            shutil.copyfile(path, new)
