"""Chooses the changes of a status that become Events."""

from __future__ import annotations

from typing import Any

from tunesmith_operator.engine.reconciler import EventSpec
from tunesmith_operator.pods.facts import condition

_SILENT = {"Accepted", "Preparing"}
_NORMAL = {"Training", "Publishing", "Completed", "Suspended", "Queued", "PodsEnding"}


def events_of(before: dict[str, Any], after: dict[str, Any]) -> tuple[EventSpec, ...]:
    """Return the events of a change of status: one if the reason has changed, or one if pods had to be replaced."""
    old, new = condition({"status": before}, "Ready"), condition({"status": after}, "Ready")
    reason = str(new.get("reason", ""))
    if not reason:
        return ()
    if old.get("reason") != reason:
        if reason in _SILENT:
            return ()
        return (EventSpec("Normal" if reason in _NORMAL else "Warning", reason, str(new["message"])),)
    if old.get("message") != new["message"] and "replaced" in new["message"]:
        return (EventSpec("Warning", "PodReplaced", str(new["message"])),)
    return ()
