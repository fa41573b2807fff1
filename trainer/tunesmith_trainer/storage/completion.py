"""Completion markers: `complete.json`, written last, lists the files of a folder with their sizes and digests.

Snapshots in an object store and checkpoints both have one. A folder without its marker is incomplete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith_api.local.files import write_json
from tunesmith_trainer.storage.files import sha256_file

MARKER = "complete.json"

Files = dict[str, dict[str, Any]]
"""`{relative path: {sha256, size}}`, as `sha256_tree` returns it."""


def write_marker(folder: Path, files: Files, about: Mapping[str, Any] | None = None, name: str = MARKER) -> None:
    """Write the marker of a folder.

    Args:
        folder: The folder.
        files: The files that it lists.
        about: More fields of the marker.
        name: The marker's file name.
    """
    write_json(folder / name, {**(about or {}), "files": files})


def parse_files(marker: bytes) -> Files:
    """Return the files that a marker lists.

    Raises:
        ValueError: It is not a marker.
    """
    try:
        return dict(json.loads(marker)["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("not a completion marker") from error


def file_problem(path: Path, expected: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a listed file, as the end of a sentence that begins with its name; None if it is whole.

    Args:
        path: The file.
        expected: Its `sha256`, and its `size` if a wrong size is to be reported as such.
    """
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != expected.get("size", size):
        return f"has {size} bytes of {expected['size']}"
    if sha256_file(path) != expected["sha256"]:
        return "has other content than was written"
    return None
