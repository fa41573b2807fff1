"""Checkpoints in the work folder: sealed with a completion marker, and verified before training resumes from them.

Nodes that share no folder each seal their own shard. A checkpoint is complete when all shards are.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from tunesmith_api.local.files import read_json
from tunesmith_api.resolve import Resolved
from tunesmith_trainer.storage.completion import MARKER, file_problem, write_marker
from tunesmith_trainer.storage.files import sha256_tree

log = logging.getLogger(__name__)

_PREFIX = "checkpoint-"


def checkpoint_facts(job: str, resolved: Resolved) -> dict[str, Any]:
    """Return what a checkpoint must share with a run that goes on from it. The number of processes is not part of it.

    Args:
        job: Digest of what the run depends on.
        resolved: Values of the run.
    """
    facts = {"job": job, "strategy": resolved.strategy}
    return facts if resolved.zero_stage is None else {**facts, "state": "fragments"}


def step_of(checkpoint: Path) -> int:
    """Return the number of steps done at a checkpoint."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def seal(checkpoint: Path, about: dict[str, Any], shard: int = 0, shards: int = 1) -> None:
    """Write the completion marker of a checkpoint, or of this node's shard of it.

    Args:
        checkpoint: The folder.
        about: The run's values that a resumed run must share.
        shard: Index of the shard in this folder.
        shards: Number of shards.
    """
    write_marker(checkpoint, sha256_tree(checkpoint), {**about, "parts": shards}, _marker_name(shard))


def is_sealed(checkpoint: Path) -> bool:
    """Return whether a checkpoint has the completion marker of any shard."""
    return any(checkpoint.glob("complete*.json"))


def damage(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint's files, or None if they are whole."""
    markers = [read_json(checkpoint / MARKER)]
    shards = (markers[0] or {}).get("parts", 1)
    markers += [read_json(checkpoint / _marker_name(shard)) for shard in range(1, shards)]
    if None in markers:
        return f"{_marker_name(markers.index(None))} is missing"
    files = {name: expected for marker in markers if marker for name, expected in marker["files"].items()}
    for name, expected in files.items():
        if problem := file_problem(checkpoint / name, expected):
            return f"{name} {problem}"
    return None


def _mismatch(checkpoint: Path, about: dict[str, Any]) -> str | None:
    """Return why a whole checkpoint does not fit this run, or None if it does."""
    listed = read_json(checkpoint / MARKER) or {}
    for name, value in about.items():
        if listed.get(name) != value:
            return f"it was made with {name} {listed.get(name)}, this run has {value}"
    return None


def newest_usable(folder: Path, about: dict[str, Any]) -> Path | None:
    """Return the newest whole checkpoint in a folder. Unusable ones are removed, each with a warning.

    Args:
        folder: The folder of the checkpoints; it may be absent.
        about: Fields that a checkpoint's marker must have to fit this run.
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


def _marker_name(shard: int) -> str:
    return MARKER if shard == 0 else f"complete-{shard}.json"


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint. It is renamed first, so that a partly removed one is not taken for a checkpoint."""
    doomed = checkpoint.with_name(f".{checkpoint.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    checkpoint.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
