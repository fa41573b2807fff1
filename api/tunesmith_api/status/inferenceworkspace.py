"""The status of an InferenceWorkspace."""

from __future__ import annotations

from tunesmith_api.status import conditions
from tunesmith_api.status.conditions import Phase, Status, waiting, with_conditions, working
from tunesmith_api.status.reasons import OperatorReason

HISTORY_LENGTH = 10


def progressing(status: Status, message: str) -> Status:
    """Return the status of a workspace whose servers are being started."""
    status = {"observedGeneration": 1, **status, "readyReplicas": 0}
    return working(status, Phase.PROGRESSING, OperatorReason.ROLLING_OUT, message)


def serving(status: Status, endpoint: str, digest: str, artifact: str, replicas: int = 1) -> Status:
    """Return the status of a workspace that serves an artifact.

    Args:
        status: The status before.
        endpoint: Base URL for the clients of its task.
        digest: Digest of the artifact; its beginning names the revision.
        artifact: Folder of the artifact.
        replicas: Servers that are ready.
    """
    revision = digest.removeprefix("sha256:")[:10]
    status = {**status, "endpoint": endpoint, "replicas": replicas, "readyReplicas": replicas}
    if status.get("revision") != revision:
        if status.get("revision"):
            status["previousRevision"] = status["revision"]
        history = [
            *(status.get("history") or []),
            {"revision": revision, "artifact": artifact, "time": conditions.now()},
        ]
        status |= {"revision": revision, "history": history[-HISTORY_LENGTH:]}
    status["phase"] = Phase.SERVING.value
    return with_conditions(
        status, "True", "False", "False", OperatorReason.SERVING, f"Revision {revision} is served at {endpoint}"
    )


def scaled_to_zero(status: Status) -> Status:
    """Return the status of a workspace with `replicas: 0`, which is Ready."""
    status = {"observedGeneration": 1, **status, "replicas": 0, "readyReplicas": 0, "phase": Phase.STOPPED.value}
    status.pop("endpoint", None)
    return with_conditions(
        status, "True", "False", "False", OperatorReason.SCALED_TO_ZERO, "replicas is 0: nothing is served"
    )


def stopped(status: Status) -> Status:
    """Return the status of a workspace whose server was stopped by its user."""
    status = {**status, "replicas": 0, "readyReplicas": 0}
    status.pop("endpoint", None)
    return waiting(status, "Interrupted", "Stopped; the same command serves again") | {"phase": Phase.STOPPED.value}


def rolling_out(status: Status, reason: str, message: str) -> Status:
    """Return the status of a workspace whose rollout is under way. The current revision keeps serving."""
    return working(status, Phase.PROGRESSING, reason, message)


def blocked(status: Status, reason: str, message: str) -> Status:
    """Return the status of a workspace whose rollout has failed. The current revision keeps serving."""
    return with_conditions({**status, "phase": Phase.BLOCKED.value}, "False", "False", "True", reason, message)
