"""Checkpoints that are whole or skipped: sealed with a list of their files, checked before they are used."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from tunesmith_trainer.files import read_json, sha256_file, sha256_tree, write_json

log = logging.getLogger(__name__)

_SEAL = "complete.json"
_PREFIX = "checkpoint-"


def step_of(checkpoint: Path) -> int:
    """Return the number of steps done at a checkpoint."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def seal(checkpoint: Path, about: dict[str, Any]) -> None:
    """Write a checkpoint's `complete.json`, last: every file with size and digest, and what made it."""
    write_json(checkpoint / _SEAL, {**about, "files": sha256_tree(checkpoint)})


def is_sealed(checkpoint: Path) -> bool:
    """Return whether a checkpoint says that it is whole."""
    return (checkpoint / _SEAL).exists()


def damage(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint's files, or None when they are whole."""
    listed = read_json(checkpoint / _SEAL)
    if listed is None:
        return f"{_SEAL} is missing"
    for name, expected in listed["files"].items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["size"]:
            return f"{name} has {path.stat().st_size} bytes of {expected['size']}"
        if sha256_file(path) != expected["sha256"]:
            return f"{name} has other content than was written"
    return None


def _mismatch(checkpoint: Path, about: dict[str, Any]) -> str | None:
    """Return why a whole checkpoint does not fit this run, or None when it does."""
    listed = read_json(checkpoint / _SEAL) or {}
    for name, value in about.items():
        if listed.get(name) != value:
            return f"it was made with {name} {listed.get(name)}, this run has {value}"
    return None


def newest_usable(folder: Path, about: dict[str, Any]) -> Path | None:
    """Return the newest whole checkpoint in a folder; those that cannot be used are named in a warning and removed.

    Args:
        folder: The folder of the checkpoints; may be absent.
        about: What a checkpoint's seal must say for it to fit this run.
    """
    skipped: list[tuple[Path, str]] = []
    chosen = None
    for checkpoint in reversed(checkpoints(folder)):
        if chosen is not None:
            if not is_sealed(checkpoint):
                _remove(checkpoint)
            continue
        problem = damage(checkpoint) or _mismatch(checkpoint, about)
        if problem is None:
            chosen = checkpoint
        else:
            skipped.append((checkpoint, problem))
    instead = f"going on from {chosen.name}" if chosen else "starting from the beginning"
    for checkpoint, problem in skipped:
        log.warning("%s cannot be used and is removed: %s; %s", checkpoint.name, problem, instead)
        _remove(checkpoint)
    for left in folder.glob(f".{_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
    return chosen


def rotate(folder: Path, keep: int) -> None:
    """Remove all but the `keep` newest whole checkpoints."""
    whole = [checkpoint for checkpoint in checkpoints(folder) if is_sealed(checkpoint)]
    for checkpoint in whole[:-keep]:
        _remove(checkpoint)


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first."""
    found = [p for p in folder.glob(f"{_PREFIX}*") if p.name.removeprefix(_PREFIX).isdecimal()]
    return sorted(found, key=step_of)


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint; stopped halfway, what is left no longer looks like one."""
    doomed = checkpoint.with_name(f".{checkpoint.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    checkpoint.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
