"""How long a job holds GPUs: counted while it is seen to train, however often it is paused or starts again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_EVERY_SECONDS = 30.0  # of a job that goes on, so that not every look writes
_SINCE, _COUNTED = "gpuSince", "gpuSeconds"


@dataclass(frozen=True)
class Held:
    """What is to be counted now.

    Attributes:
        seconds: Seconds times GPUs since it was counted last.
        noted: What is kept in `observed` to go on from.
    """

    seconds: float
    noted: dict[str, float]


def held(observed: Mapping[str, Any], spec: Mapping[str, Any], found: Mapping[str, Any] | None, now: float) -> Held:
    """Return what a job has held since it was counted last.

    Args:
        observed: What was noted before.
        spec: Its FineTuneJob's spec.
        found: The FineTuneJob; None if there is none.
        now: The time.
    """
    before = {key: observed[key] for key in (_SINCE, _COUNTED) if key in observed}
    gpus = gpus_of(spec)
    if not gpus:
        return Held(0.0, {})
    since, holds = before.pop(_SINCE, None), found is not None and _trains(found.get("status") or {})
    if since is None:
        return Held(0.0, {**before, _SINCE: now} if holds else before)
    if holds and now - since < _EVERY_SECONDS:
        return Held(0.0, {**before, _SINCE: since})
    seconds = max(0.0, now - since) * gpus
    noted = {_COUNTED: before.get(_COUNTED, 0.0) + seconds}
    return Held(seconds, {**noted, _SINCE: now} if holds else noted)


def counted(observed: Mapping[str, Any]) -> bool:
    """Return whether anything of a job was counted; a short one may have ended between two looks."""
    return _COUNTED in observed


def gpus_of(spec: Mapping[str, Any]) -> int:
    """Return the GPUs that a job trains on."""
    resources = spec.get("resources", {})
    return int(resources.get("nodes", 1)) * int(resources.get("gpusPerNode", 0))


def _trains(status: Mapping[str, Any]) -> bool:
    ready: Mapping[str, Any] = next(
        (item for item in status.get("conditions") or [] if item.get("type") == "Ready"), {}
    )
    return status.get("phase") == "Training" and ready.get("reason") not in ("Queued", "Suspended")
