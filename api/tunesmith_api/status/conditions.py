"""Phases and conditions, the same in a cluster and on one machine.

Every function takes a status (as it is stored) and returns a new one. GitOps tools read three conditions: while work
is going on or can still go on, `Ready` is Unknown and `Reconciling` True; after success `Ready` is True; and only
after a failure that needs a change to the spec, `Stalled` is True and `Ready` False.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from tunesmith_api.status.reasons import OperatorReason

Status = dict[str, Any]


class Phase(StrEnum):
    """Where an object stands, in one word, for people."""

    PENDING = "Pending"
    PREPARING = "Preparing"
    TRAINING = "Training"
    PUBLISHING = "Publishing"
    SUCCEEDED = "Succeeded"
    PROGRESSING = "Progressing"
    SERVING = "Serving"
    BLOCKED = "Blocked"
    STOPPED = "Stopped"
    FAILED = "Failed"


def now() -> str:
    """Return the time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def with_condition(status: Status, kind: str, value: str, reason: str, message: str) -> Status:
    """Return the status with a condition set; its transition time moves only when its value changes.

    Args:
        status: The status.
        kind: `Ready`, `Reconciling` or `Stalled`.
        value: `True`, `False` or `Unknown`.
        reason: Why, as one word.
        message: Why, in words, and what to do.
    """
    old = {item["type"]: item for item in status.get("conditions") or []}
    before = old.get(kind)
    since = before["lastTransitionTime"] if before and before["status"] == value else now()
    new = {"type": kind, "status": value, "reason": reason, "message": message, "lastTransitionTime": since}
    if (generation := status.get("observedGeneration")) is not None:
        new["observedGeneration"] = generation
    return {**status, "conditions": [*(c for t, c in sorted(old.items()) if t != kind), new]}


def with_conditions(status: Status, ready: str, reconciling: str, stalled: str, reason: str, message: str) -> Status:
    """Return the status with all three conditions set, with one reason and message."""
    for kind, value in (("Ready", ready), ("Reconciling", reconciling), ("Stalled", stalled)):
        status = with_condition(status, kind, value, reason, message)
    return status


def working(status: Status, phase: Phase, reason: str, message: str) -> Status:
    """Return the status of an object that is still being worked on."""
    return with_conditions({**status, "phase": phase.value}, "Unknown", "True", "False", reason, message)


def accepted(status: Status, generation: int = 1) -> Status:
    """Return the first status of an object: accepted, nothing done yet."""
    status = {**status, "observedGeneration": generation}
    return working({"startTime": now(), **status}, Phase.PENDING, OperatorReason.ACCEPTED, "Seen; work begins")


def observed(status: Status, generation: int) -> Status:
    """Return the status of an object whose new generation needs no work."""
    if status.get("observedGeneration") == generation:
        return status
    conditions = [{**item, "observedGeneration": generation} for item in status.get("conditions") or []]
    return {**status, "observedGeneration": generation, "conditions": conditions}


def held(status: Status, reason: str, message: str) -> Status:
    """Return the status of an object that cannot proceed at the moment. It keeps its phase."""
    return working(status, Phase(status.get("phase") or Phase.PENDING), reason, message)


def waiting(status: Status, reason: str, message: str) -> Status:
    """Return the status of an object that cannot proceed at the moment, but may later."""
    return working(status, Phase.PENDING, reason, message)


def failed(status: Status, reason: str, message: str) -> Status:
    """Return the status of an object that has failed and needs a change to its spec."""
    status = {**status, "phase": Phase.FAILED.value}
    if "startTime" in status:  # A workspace has neither time, as it does not end.
        status.setdefault("completionTime", now())
    return with_conditions(status, "False", "False", "True", reason, message)
