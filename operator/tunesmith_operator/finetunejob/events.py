"""Chooses the changes of a status that become Events."""

from __future__ import annotations

import re
from typing import Any

from tunesmith_operator.engine.reconciler import EventSpec
from tunesmith_operator.pods.facts import condition

_LOWERED = re.compile(r"(microBatchSize|gradientCheckpointing)\b.* after .*")
_SILENT = {"Accepted", "Preparing"}
_NORMAL = {"Training", "Publishing", "Completed", "Suspended", "Queued", "PodsEnding"}


def events_of(before: dict[str, Any], after: dict[str, Any]) -> tuple[EventSpec, ...]:
    """Return the event of a change of status: a new reason, pods that were replaced, or training with less memory."""
    old, new = condition({"status": before}, "Ready"), condition({"status": after}, "Ready")
    reason = str(new.get("reason", ""))
    if not reason:
        return ()
    if old.get("reason") != reason:
        if reason in _SILENT:
            return ()
        return (EventSpec("Normal" if reason in _NORMAL else "Warning", reason, str(new["message"])),)
    lowered = _LOWERED.search(str(new["message"]))
    if lowered and lowered[0] not in str(old.get("message")):
        return (EventSpec("Warning", "MemoryLowered", str(new["message"])),)
    if old.get("message") != new["message"] and "replaced" in new["message"]:
        return (EventSpec("Warning", "PodReplaced", str(new["message"])),)
    return ()
