"""What is to be done about a job, from its row and its FineTuneJob. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tunesmith_hosted.fine_tuning.events import FINISHED, Event

Object = dict[str, Any]
Act = Literal["none", "validate", "apply", "suspend", "resume", "delete"]

_RUNNING = frozenset({"Preparing", "Training", "Publishing"})
_SHOWN = ("phase", "progress", "conditions")
_KEPT = ("plan", "measured", "metrics", "artifact")  # of a job that has ended, whose object may be removed


@dataclass(frozen=True)
class JobFacts:
    """What the database says of a job.

    Attributes:
        status: The status that the API shows.
        wanted: `run`, `pause` or `cancel`.
        has_place: Whether it may run.
        observed: What was noted of its FineTuneJob before.
    """

    status: str
    wanted: str = "run"
    has_place: bool = False
    observed: Object = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """What is to be done.

    Attributes:
        act: What is done to the FineTuneJob.
        status: The job's status from now on.
        keeps_place: Whether it keeps its place.
        events: What has happened.
        observed: What is noted of its FineTuneJob.
        eta: Seconds until training is done, as the trainer estimates; None if it does not.
        error: Why it has failed: `code`, `message` and `param`.
        again: Whether to look again soon.
    """

    act: Act
    status: str
    keeps_place: bool = True
    events: tuple[Event, ...] = ()
    observed: Object = field(default_factory=dict)
    eta: float | None = None
    error: Object = field(default_factory=dict)
    again: bool = False


def decide(job: JobFacts, found: Object | None, applied: bool) -> Decision:
    """Return what is to be done about a job.

    Args:
        job: The job.
        found: Its FineTuneJob; None if there is none.
        applied: Whether this replica has applied it lately.
    """
    if job.status == "cancelled" and found is not None:
        return Decision("delete", "cancelled", keeps_place=False, observed=job.observed)
    if job.status in FINISHED:
        return Decision("none", job.status, keeps_place=False, observed=job.observed)
    status = found.get("status", {}) if found is not None else {}
    phase = status.get("phase")
    if found is not None and job.has_place and phase in ("Succeeded", "Failed"):
        return _ended(job, status)
    if job.wanted == "pause":
        return _pausing(job, found)
    if job.status == "validating_files":
        return Decision("validate", job.status, observed=job.observed)
    if not job.has_place:
        return Decision("none", "queued", keeps_place=False, observed=job.observed)
    if found is None or not applied:
        return Decision("apply", job.status, observed=job.observed, again=True)
    if found["spec"].get("suspend"):
        return Decision("resume", job.status, observed=job.observed, again=True)
    return _going_on(job, status)


def _pausing(job: JobFacts, found: Object | None) -> Decision:
    """Return what is to be done about a job that its user wants to pause."""
    stopped = found is None or (found["spec"].get("suspend") and _reason(found.get("status", {})) == "Suspended")
    if stopped:
        events = () if job.status == "paused" else (Event("Fine-tuning job paused"),)
        return Decision("none", "paused", keeps_place=False, events=events, observed=job.observed)
    act: Act = "none" if found is not None and found["spec"].get("suspend") else "suspend"
    return Decision(act, "pausing", observed=job.observed, again=True)


def _ended(job: JobFacts, status: Object) -> Decision:
    observed = _shown(status) | {key: status[key] for key in _KEPT if key in status}
    if status["phase"] == "Succeeded":
        return Decision("none", "succeeded", keeps_place=False, events=_metrics(job, status), observed=observed)
    condition = _ready(status)
    reason, message = condition.get("reason") or "Failed", condition.get("message") or "The job has failed"
    error = {"code": _CODES.get(reason, "server_error"), "message": message, "param": _PARAMS.get(reason)}
    events = (*_metrics(job, status), Event(f"Fine-tuning job failed: {message}", level="error"))
    return Decision("none", "failed", keeps_place=False, events=events, observed=observed, error=error)


def _going_on(job: JobFacts, status: Object) -> Decision:
    """Return what has happened to a job that runs, or waits for machines."""
    events: list[Event] = []
    phase, before = status.get("phase"), job.observed.get("phase")
    runs = phase in _RUNNING and _reason(status) not in ("Queued", "Suspended")
    if runs and job.status != "running":
        events.append(Event("Fine-tuning job started" if before not in _RUNNING else "Fine-tuning job goes on"))
    events += _metrics(job, status)
    if phase == "Publishing" and before != "Publishing":
        events.append(Event("Training is done; the model is being exported and checked"))
    reason = _ready(status)
    if phase == "Pending" and reason.get("message") and reason != _ready(job.observed) and reason["status"] != "True":
        events.append(Event(reason["message"], level="warn"))
    return Decision(
        "none",
        "running" if runs else "queued",
        events=tuple(events),
        observed=_shown(status),
        eta=(status.get("progress") or {}).get("etaSeconds") if phase == "Training" else None,
        again=True,
    )


def _metrics(job: JobFacts, status: Object) -> tuple[Event, ...]:
    """Return the event of the newest step, if it is new."""
    progress, before = status.get("progress") or {}, job.observed.get("progress") or {}
    step, loss = progress.get("step"), progress.get("loss")
    if not step or loss is None or step <= (before.get("step") or 0):
        return ()
    data: dict[str, Any] = {"step": step, "train_loss": loss}
    text = f"Step {step}/{progress.get('totalSteps', step)}: training loss={loss:.4f}"
    if (valid := progress.get("evalLoss")) is not None:
        data["valid_loss"] = valid
        text += f", validation loss={valid:.4f}"
    if (total := progress.get("totalSteps")) is not None:
        data["total_steps"] = total
    return (Event(text, type="metrics", data=data),)


def _ready(status: Object) -> Object:
    """Return the condition that says why a job stands where it does, without its time."""
    found: Object = next((item for item in status.get("conditions") or [] if item.get("type") == "Ready"), {})
    return {key: value for key, value in found.items() if key in ("status", "reason", "message")}


def _reason(status: Object) -> str | None:
    return _ready(status).get("reason")


def _shown(status: Object) -> Object:
    """Return what is noted of a status."""
    return {key: status[key] for key in _SHOWN if key in status}


_CODES = {"InvalidDataset": "invalid_training_file", "GateFailed": "gate_failed", "InvalidSpec": "invalid_settings"}
_PARAMS = {"InvalidDataset": "training_file"}
