"""Checkpoints that are whole or skipped: sealed with a list of their files, checked before they are used.

Machines that share no folder each seal the part that they wrote (`parts`): all of them make the checkpoint.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from tunesmith_trainer.storage.files import read_json, sha256_file, sha256_tree, write_json

log = logging.getLogger(__name__)

_SEAL = "complete.json"
_PREFIX = "checkpoint-"


def step_of(checkpoint: Path) -> int:
    """Return the number of steps done at a checkpoint."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def seal(checkpoint: Path, about: dict[str, Any], part: int = 0, parts: int = 1) -> None:
    """Write a checkpoint's seal, last: every file with size and digest, and what made it.

    Args:
        checkpoint: The checkpoint.
        about: What made it.
        part: Number of the part of it that is in this folder.
        parts: How many there are.
    """
    write_json(checkpoint / _seal_name(part), {**about, "parts": parts, "files": sha256_tree(checkpoint)})


def is_sealed(checkpoint: Path) -> bool:
    """Return whether a checkpoint, or a part of it, says that it is whole."""
    return any(checkpoint.glob("complete*.json"))


def damage(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint's files, or None when they are whole."""
    seals = [read_json(checkpoint / _SEAL)]
    parts = (seals[0] or {}).get("parts", 1)
    seals += [read_json(checkpoint / _seal_name(part)) for part in range(1, parts)]
    if None in seals:
        return f"{_seal_name(seals.index(None))} is missing"
    files = {name: expected for listed in seals if listed for name, expected in listed["files"].items()}
    for name, expected in files.items():
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


def _seal_name(part: int) -> str:
    return _SEAL if part == 0 else f"complete-{part}.json"


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint; stopped halfway, what is left no longer looks like one."""
    doomed = checkpoint.with_name(f".{checkpoint.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    checkpoint.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
