"""What Flux and `helm --wait` make of a custom resource: the rules of kstatus, told in a few lines.

From its documentation (sigs.k8s.io/cli-utils, pkg/kstatus) and from what the real ones were seen to do: an object that
goes is Terminating; one whose spec is newer than what its status speaks of is InProgress; then the first of Reconciling
and Stalled that is True decides; then Ready. What says nothing at all is Current.
"""

from typing import Any

CURRENT, IN_PROGRESS, FAILED, TERMINATING = "Current", "InProgress", "Failed", "Terminating"


def kstatus(obj: dict[str, Any]) -> str:
    """Current, InProgress, Failed or Terminating."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return TERMINATING
    if status.get("observedGeneration", metadata.get("generation")) != metadata.get("generation"):
        return IN_PROGRESS
    conditions = status.get("conditions") or []
    for item in conditions:
        if item["status"] == "True" and item["type"] in ("Reconciling", "Stalled"):
            return IN_PROGRESS if item["type"] == "Reconciling" else FAILED
    ready = next((item["status"] for item in conditions if item["type"] == "Ready"), "True")
    return CURRENT if ready == "True" else IN_PROGRESS
