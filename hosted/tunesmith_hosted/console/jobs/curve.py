"""The curve of a job: loss, learning rate and validation loss by step."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Point = dict[str, Any]

MOST_POINTS = 1000
"""The most points of a curve; of a longer one, points between are left out."""


def points_of_log(lines: Iterable[bytes], after: int = 0) -> list[Point]:
    """Return the points of a training log, which may be written to while it is read.

    Args:
        lines: Its lines. The last may be cut off.
        after: Only steps after this one.
    """
    found: dict[int, Point] = {}
    for line in lines:
        try:
            entry = json.loads(line)
            step = int(entry["step"])
        except (ValueError, KeyError, TypeError):
            continue
        if step > after:
            # After an interruption steps are computed again.
            found[step] = _point(step, entry.get("loss"), entry.get("learningRate"), entry.get("evalLoss"))
    return thinned([found[step] for step in sorted(found)])


def points_of_events(data: Iterable[Mapping[str, Any]], after: int = 0) -> list[Point]:
    """Return the points that events of metrics tell of, which are those that were seen while the job ran."""
    points = [_point(item["step"], item.get("train_loss"), None, item.get("valid_loss")) for item in data]
    return thinned([point for point in points if point["step"] > after])


def thinned(points: list[Point]) -> list[Point]:
    """Return about `MOST_POINTS` points: those with a validation loss, the last, and others at even distance."""
    if len(points) <= MOST_POINTS:
        return points
    every = -(-len(points) // MOST_POINTS)
    last = len(points) - 1
    return [point for at, point in enumerate(points) if at % every == 0 or at == last or point["evalLoss"] is not None]


def _point(step: int, loss: float | None, learning_rate: float | None, eval_loss: float | None) -> Point:
    return {"step": step, "loss": loss, "learningRate": learning_rate, "evalLoss": eval_loss}
