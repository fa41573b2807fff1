"""What a job has left: in its work folder while that is on this machine, or in its artifact."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_hosted.console.jobs.curve import points_of_log
from tunesmith_hosted.console.jobs.predictions import worst_rows
from tunesmith_hosted.files.filesystems import open_filesystem, open_to_read

LOG, PREDICTIONS, EVALUATION = "training_log.jsonl", "predictions.jsonl", "evaluation.json"

_MOST_BYTES = 16 << 20
_VOLUME = "pvc://"

Read = TypeVar("Read")


def read_curve(folder: Path | None, artifact: str | None, after: int) -> list[dict[str, Any]]:
    """Return the points of a job's curve after a step; none if nothing is at hand.

    Args:
        folder: Its work folder, if that is on this machine.
        artifact: URI of its artifact, if it has one.
        after: Only steps after this one.

    Raises:
        OSError: The artifact's store does not answer.
    """
    paths = [] if folder is None else [WorkFolder(folder).training_log]
    return _read(paths, artifact, LOG, lambda lines: points_of_log(lines, after))


def read_worst_rows(folder: Path | None, artifact: str | None) -> list[dict[str, Any]]:
    """Return a job's worst predictions, also those of a model that was not published; none if nothing is at hand.

    Raises:
        OSError: The artifact's store does not answer.
    """
    paths = [] if folder is None else [WorkFolder(folder).stage(Stage.PUBLISH) / PREDICTIONS]
    return _read(paths, artifact, PREDICTIONS, worst_rows)


def read_metrics(folder: Path | None) -> dict[str, Any]:
    """Return what a model that failed its gates was measured at, `{before, after}`; the status has it of others."""
    if folder is None:
        return {}
    try:
        found = json.loads((WorkFolder(folder).stage(Stage.PUBLISH) / EVALUATION).read_bytes())
    except (OSError, ValueError):
        return {}
    return {name: found[name] for name in ("before", "after") if name in found}


def _read(
    paths: Iterable[Path], artifact: str | None, name: str, read: Callable[[Iterable[bytes]], list[Read]]
) -> list[Read]:
    for path in paths:
        try:
            with path.open("rb") as file:
                return read(_lines(file))
        except FileNotFoundError:
            continue
    if not artifact or artifact.startswith(_VOLUME):
        return []
    files, root = open_filesystem(artifact)
    try:
        with open_to_read(files, f"{root}/{name}") as file:
            return read(_lines(file))
    except FileNotFoundError:
        return []


def _lines(file: Any) -> Iterable[bytes]:  # noqa: ANN401 - a file of any store
    """Yield the lines of the first bytes of a file."""
    data: bytes = file.read(_MOST_BYTES)
    return data.splitlines()
