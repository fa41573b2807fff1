"""Where an object stands: phases and conditions, the same in a cluster and on one machine.

Every function takes a status (as it is stored) and returns a new one. GitOps tools read three conditions: while
anything can still come of the object, `Ready` is Unknown and `Reconciling` True; at its good end `Ready` is True; and
only when nothing will come of it without a change, `Stalled` is True and `Ready` False.
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
    """Return the status of an object that something can still come of."""
    return with_conditions({**status, "phase": phase.value}, "Unknown", "True", "False", reason, message)


def accepted(status: Status, generation: int = 1) -> Status:
    """Return the first status of an object: seen, nothing done yet."""
    status = {**status, "observedGeneration": generation}
    return working({"startTime": now(), **status}, Phase.PENDING, OperatorReason.ACCEPTED, "Seen; work begins")


def observed(status: Status, generation: int) -> Status:
    """Return the status of an object whose spec has a new generation that changes nothing for it."""
    if status.get("observedGeneration") == generation:
        return status
    conditions = [{**item, "observedGeneration": generation} for item in status.get("conditions") or []]
    return {**status, "observedGeneration": generation, "conditions": conditions}


def held(status: Status, reason: str, message: str) -> Status:
    """Return the status of an object that cannot go on right now; how far it has come (its phase) stays."""
    return working(status, Phase(status.get("phase") or Phase.PENDING), reason, message)


def waiting(status: Status, reason: str, message: str) -> Status:
    """Return the status of an object that cannot go on right now, but may later."""
    return working(status, Phase.PENDING, reason, message)


def failed(status: Status, reason: str, message: str) -> Status:
    """Return the status of an object of which nothing will come without a change."""
    status = {**status, "phase": Phase.FAILED.value}
    if "startTime" in status:  # A workspace has neither time: it does not end.
        status.setdefault("completionTime", now())
    return with_conditions(status, "False", "False", "True", reason, message)
