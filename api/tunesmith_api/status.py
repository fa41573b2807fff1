"""Where an object stands: phases and conditions, the same in a cluster and on one machine.

Every function takes a status (as it is stored) and returns a new one. GitOps tools read three conditions: while
anything can still come of the object, `Ready` is Unknown and `Reconciling` True; at its good end `Ready` is True; and
only when nothing will come of it without a change, `Stalled` is True and `Ready` False.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from tunesmith_api.work_folder import Stage

Status = dict[str, Any]
HISTORY_LENGTH = 10


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


_PHASE_OF_STAGE = {
    Stage.PREPARE: Phase.PREPARING,
    Stage.TRAIN: Phase.TRAINING,
    Stage.PUBLISH: Phase.PUBLISHING,
}
_TRAINED = ("step", "totalSteps", "epoch", "loss", "evalLoss")


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


def _conditions(status: Status, ready: str, reconciling: str, stalled: str, reason: str, message: str) -> Status:
    for kind, value in (("Ready", ready), ("Reconciling", reconciling), ("Stalled", stalled)):
        status = with_condition(status, kind, value, reason, message)
    return status


def _working(status: Status, phase: Phase, reason: str, message: str) -> Status:
    return _conditions({**status, "phase": phase.value}, "Unknown", "True", "False", reason, message)


def accepted(status: Status, generation: int = 1) -> Status:
    """Return the first status of an object: seen, nothing done yet."""
    status = {**status, "observedGeneration": generation}
    return _working({"startTime": now(), **status}, Phase.PENDING, "Accepted", "Seen; work begins")


def running(status: Status, stage: Stage, attempts: Mapping[str, int], detail: str = "") -> Status:
    """Return the status of a job whose stage has been started.

    Args:
        status: The status before.
        stage: The stage.
        attempts: How often each stage was started.
        detail: What else is to be said of it, for people.
    """
    phase = _PHASE_OF_STAGE[stage]
    status = {key: value for key, value in status.items() if key != "completionTime"}
    message = f"The {stage.value} stage is running" + (f"; {detail}" if detail else "")
    return _working({**status, "attempts": dict(attempts)}, phase, phase.value, message)


def with_progress(
    status: Status, progress: Mapping[str, Any] | None, resolved: Mapping[str, Any] | None = None
) -> Status:
    """Return the status with the newest progress and the values that were chosen."""
    status = dict(status)
    if progress:
        status["progress"] = {**trained(status.get("progress"), progress.get("stage")), **progress}
    if resolved:
        status["resolved"] = dict(resolved)
    return status


def trained(before: Mapping[str, Any] | None, stage: str | None) -> dict[str, Any]:
    """Return what a progress keeps of the stage before: while a job publishes, how far it was trained.

    Args:
        before: The progress so far.
        stage: The stage that has begun.
    """
    return {key: before[key] for key in _TRAINED if key in before} if before and stage == "publish" else {}


def observed(status: Status, generation: int) -> Status:
    """Return the status of an object whose spec has a new generation that changes nothing for it."""
    if status.get("observedGeneration") == generation:
        return status
    conditions = [{**item, "observedGeneration": generation} for item in status.get("conditions") or []]
    return {**status, "observedGeneration": generation, "conditions": conditions}


def held(status: Status, reason: str, message: str) -> Status:
    """Return the status of an object that cannot go on right now; how far it has come (its phase) stays."""
    return _working(status, Phase(status.get("phase") or Phase.PENDING), reason, message)


def suspended(status: Status, message: str) -> Status:
    """Return the status of a job that its user has suspended."""
    return held(status, "Suspended", message)


def queued(status: Status, queue: str) -> Status:
    """Return the status of a job that waits for a queue of Kueue to admit its next stage."""
    return held(status, "Queued", f"Waits until the queue {queue} admits it; see: kubectl get workloads")


def waiting(status: Status, reason: str, message: str) -> Status:
    """Return the status of an object that cannot go on right now, but may later."""
    return _working(status, Phase.PENDING, reason, message)


def interrupted(status: Status, stage: Stage) -> Status:
    """Return the status of a job that was stopped by its user and can go on."""
    return waiting(status, "Interrupted", f"Stopped during {stage.value}; the same command goes on from there")


def completed(status: Status, artifact: Mapping[str, Any], metrics: Mapping[str, Any]) -> Status:
    """Return the status of a job that has done all it had to do."""
    status = {"completionTime": now(), **status, "phase": Phase.SUCCEEDED.value}
    status |= {"artifact": dict(artifact), "metrics": dict(metrics)}
    return _conditions(status, "True", "False", "False", "Completed", f"The artifact is at {artifact.get('uri')}")


def is_finished(status: Mapping[str, Any]) -> bool:
    """Return whether a job has ended, well or not."""
    return status.get("phase") in (Phase.SUCCEEDED, Phase.FAILED)


def failed(status: Status, reason: str, message: str) -> Status:
    """Return the status of an object of which nothing will come without a change."""
    status = {**status, "phase": Phase.FAILED.value}
    if "startTime" in status:  # A workspace has neither time: it does not end.
        status.setdefault("completionTime", now())
    return _conditions(status, "False", "False", "True", reason, message)


def progressing(status: Status, message: str) -> Status:
    """Return the status of a workspace whose servers are being started."""
    status = {"observedGeneration": 1, **status, "readyReplicas": 0}
    return _working(status, Phase.PROGRESSING, "RollingOut", message)


def serving(status: Status, endpoint: str, digest: str, artifact: str, replicas: int = 1) -> Status:
    """Return the status of a workspace that serves an artifact.

    Args:
        status: The status before.
        endpoint: Base URL for an OpenAI client.
        digest: Digest of the artifact; its beginning names the revision.
        artifact: Folder of the artifact.
        replicas: Servers that are ready.
    """
    revision = digest.removeprefix("sha256:")[:10]
    status = {**status, "endpoint": endpoint, "replicas": replicas, "readyReplicas": replicas}
    if status.get("revision") != revision:
        if status.get("revision"):
            status["previousRevision"] = status["revision"]
        history = [*(status.get("history") or []), {"revision": revision, "artifact": artifact, "time": now()}]
        status |= {"revision": revision, "history": history[-HISTORY_LENGTH:]}
    status["phase"] = Phase.SERVING.value
    return _conditions(status, "True", "False", "False", "Serving", f"Revision {revision} is served at {endpoint}")


def scaled_to_zero(status: Status) -> Status:
    """Return the status of a workspace that wants no servers: as it should be, and so Ready."""
    status = {"observedGeneration": 1, **status, "replicas": 0, "readyReplicas": 0, "phase": Phase.STOPPED.value}
    status.pop("endpoint", None)
    return _conditions(status, "True", "False", "False", "ScaledToZero", "replicas is 0: nothing is served")


def stopped(status: Status) -> Status:
    """Return the status of a workspace whose server was stopped by its user."""
    status = {**status, "replicas": 0, "readyReplicas": 0}
    status.pop("endpoint", None)
    return waiting(status, "Interrupted", "Stopped; the same command serves again") | {"phase": Phase.STOPPED.value}


def rolling_out(status: Status, reason: str, message: str) -> Status:
    """Return the status of a workspace whose servers are not yet as they should be; what is served is served on."""
    return _working(status, Phase.PROGRESSING, reason, message)


def blocked(status: Status, reason: str, message: str) -> Status:
    """Return the status of a workspace that serves on, and of whose change nothing will come without another one."""
    return _conditions({**status, "phase": Phase.BLOCKED.value}, "False", "False", "True", reason, message)
