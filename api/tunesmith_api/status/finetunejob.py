"""The status of a FineTuneJob."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith_api.status import conditions
from tunesmith_api.status.conditions import Phase, Status, held, waiting, with_conditions, working
from tunesmith_api.status.reasons import OperatorReason
from tunesmith_api.work_folder import Stage

_PHASE_OF_STAGE = {
    Stage.PREPARE: Phase.PREPARING,
    Stage.TRAIN: Phase.TRAINING,
    Stage.PUBLISH: Phase.PUBLISHING,
}
_TRAINED = (
    "step",
    "totalSteps",
    "epoch",
    "loss",
    "evalLoss",
    "bestStep",
    "bestEvalLoss",
    "stoppedEarly",
    "adjusted",
)


def running(status: Status, stage: Stage, attempts: Mapping[str, int], detail: str = "") -> Status:
    """Return the status of a job whose stage has been started.

    Args:
        status: The status before.
        stage: The stage.
        attempts: How often each stage was started.
        detail: Further text for people.
    """
    phase = _PHASE_OF_STAGE[stage]
    status = {key: value for key, value in status.items() if key != "completionTime"}
    message = f"The {stage.value} stage is running" + (f"; {detail}" if detail else "")
    return working({**status, "attempts": dict(attempts)}, phase, phase.value, message)


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
    """Return the fields of training progress that stay in the status while the job publishes.

    Args:
        before: The progress so far.
        stage: The stage that has started.
    """
    return {key: before[key] for key in _TRAINED if key in before} if before and stage == "publish" else {}


def publish_restarted(status: Status) -> Status:
    """Return the status of a job that publishes again, because what publish reads or gets has changed."""
    status = {key: value for key, value in status.items() if key != "completionTime"}
    message = "evaluation, export, output or stages.publish has changed: the publish stage starts again"
    return working(status, Phase.PUBLISHING, Phase.PUBLISHING.value, message)


def suspended(status: Status, message: str) -> Status:
    """Return the status of a job that its user has suspended."""
    return held(status, OperatorReason.SUSPENDED, message)


def queued(status: Status, queue: str) -> Status:
    """Return the status of a job whose next stage waits to be admitted by a queue of Kueue."""
    return held(status, OperatorReason.QUEUED, f"Waits until the queue {queue} admits it; see: kubectl get workloads")


def interrupted(status: Status, stage: Stage) -> Status:
    """Return the status of a job that its user has stopped and can resume."""
    return waiting(status, "Interrupted", f"Stopped during {stage.value}; the same command goes on from there")


def completed(status: Status, artifact: Mapping[str, Any], metrics: Mapping[str, Any]) -> Status:
    """Return the status of a job that has succeeded."""
    status = {"completionTime": conditions.now(), **status, "phase": Phase.SUCCEEDED.value}
    status |= {"artifact": dict(artifact), "metrics": dict(metrics)}
    return with_conditions(
        status, "True", "False", "False", OperatorReason.COMPLETED, f"The artifact is at {artifact.get('uri')}"
    )


def is_finished(status: Mapping[str, Any]) -> bool:
    """Return whether a job has succeeded or failed."""
    return status.get("phase") in (Phase.SUCCEEDED, Phase.FAILED)
