"""Measures how long a job has been working: time while suspended or queued does not count."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_operator.finetunejob.observed import time_of

Status = dict[str, Any]


def paused(status: Status, now: datetime) -> Status:
    """Return the status of a job whose clock stops now."""
    return status if status.get("pausedSince") else {**status, "pausedSince": now.strftime("%Y-%m-%dT%H:%M:%SZ")}


def resumed(status: Status, now: datetime) -> Status:
    """Return the status of a job whose clock runs (again)."""
    if not status.get("pausedSince"):
        return status
    seconds = _paused_seconds(status, now)
    rest = {key: value for key, value in status.items() if key != "pausedSince"}
    return {**rest, "pausedSeconds": seconds} if seconds else rest


def reopened(status: Status, now: datetime) -> Status:
    """Return the status of a failed job that goes on: the time since it failed does not count."""
    if not (ended := status.get("completionTime")):
        return status
    rest = {key: value for key, value in status.items() if key != "completionTime"}
    return resumed({**rest, "pausedSince": ended}, now)


def seconds_left(spec: FineTuneJobSpec, status: Status, now: datetime) -> float | None:
    """Return the seconds of work until the job's deadline, 0 or less if it has passed; None if it has none."""
    limit = spec.scheduling.active_deadline_seconds
    if limit is None:
        return None
    worked = (now - time_of(status["startTime"])).total_seconds() - _paused_seconds(status, now)
    return limit - worked


def seconds_until_deletion(spec: FineTuneJobSpec, status: Status, now: datetime) -> float | None:
    """Return the seconds until a finished job is deleted, 0 or less if it is time; None for never."""
    ttl, ended = spec.ttl_seconds_after_finished, status.get("completionTime")
    if ttl is None or not ended:
        return None
    return ttl - (now - time_of(ended)).total_seconds()


def _paused_seconds(status: Status, now: datetime) -> int:
    since = status.get("pausedSince")
    running = max(0.0, (now - time_of(since)).total_seconds()) if since else 0.0
    return int(status.get("pausedSeconds") or 0) + round(running)
