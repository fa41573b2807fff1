"""An object's folder on this machine: its status, a JSON file that is replaced atomically, and its lock."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith_api.local.files import read_json, write_atomic
from tunesmith_api.local.locks import try_lock
from tunesmith_backend.interface.errors import BackendError

Status = dict[str, Any]


def object_folder(root: Path, namespace: str, name: str) -> Path:
    """Return the work folder of an object: `ROOT/NAMESPACE/NAME`."""
    return root / namespace / name


def write_file(path: Path, data: bytes) -> bool:
    """Write a file atomically, and return whether its content has changed."""
    if path.is_file() and path.read_bytes() == data:
        return False
    write_atomic(path, data, sync=False)
    return True


class StatusFile:
    """The `status` of one object, on disk.

    Attributes:
        path: The file.
        status: The newest status, as the file holds it.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.path = folder / f"{kind.lower()}-status.json"
        self.status: Status = read_json(self.path) or {}

    def write(self, status: Status) -> None:
        """Replace the status if it differs from the file's."""
        if status != self.status or not self.path.exists():
            write_file(self.path, (json.dumps(status, indent=2, ensure_ascii=False) + "\n").encode())
            self.status = status


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of an object's work folder, so that no other command works in it.

    Raises:
        BackendError: Another command holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        if not try_lock(file):
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BackendError(
                f"{folder} is in use by another tunesmith (process {holder}); wait for it to end, or stop it"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
