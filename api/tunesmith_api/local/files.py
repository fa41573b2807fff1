"""Atomic writes: a reader sees a file's old content or its new content, never a part."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any


def write_atomic(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write a file under a temporary name and rename it.

    Args:
        path: The file. Its folder is created if it does not exist.
        data: The content.
        sync: Whether to flush to disk first, so that the file also survives a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The host's name too: in containers that share a volume, the first process always has the same number.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, value: Any, *, sync: bool = True) -> None:  # noqa: ANN401 - any JSON value
    """Write a JSON value atomically, indented and with a final newline."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(), sync=sync)


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """Return the JSON value of a file, or None if the file does not exist or is not valid JSON."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
