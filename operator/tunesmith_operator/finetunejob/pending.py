"""Why a stage does not run yet, from its Job, its pods and their events. Each of these reasons can go away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tunesmith_api.status.reasons import OperatorReason
from tunesmith_api.work_folder import Stage
from tunesmith_operator.engine.event_fields import last_seen, text_of
from tunesmith_operator.engine.reconciler import ApplyError, KubeObject
from tunesmith_operator.finetunejob.containers import container_state
from tunesmith_operator.finetunejob.observed import Observed, age, has_ended, stage_of, time_of
from tunesmith_operator.pods.facts import (
    CONFIG_REASONS,
    PULL_REASONS,
    SETTING_UP,
    condition,
    exceeds_quota,
    holds,
    is_terminal,
    missing_in,
    unschedulable,
    waiting_of,
)

QUIET_SECONDS = 20.0
"""Time after which events are read to learn why a Job has too few pods, or a scheduled pod no container."""
LOST_SECONDS = 30.0
"""Time after a pod's grace period by which a kubelet that works has removed it."""
_LOOK_AGAIN = 15.0
_LOOK_FOR_MISSING = 5.0


@dataclass(frozen=True)
class PendingReason:
    """Why a stage does not run yet.

    Attributes:
        reason: The condition's reason.
        message: What the stage waits for, and what to do.
        look_again: Seconds after which to check again; None if a watched object will change.
    """

    reason: str
    message: str
    look_again: float | None = None


def pending_reason(observed: Observed, job: KubeObject) -> PendingReason | None:
    """Return what a stage's Job waits for; None if it runs (or has only just been created)."""
    pods = observed.pods_of(job)
    if (lost := next((pod for pod in pods if _is_lost(pod, observed.now)), None)) is not None:
        return ending(lost, observed.now)
    for pod in pods:
        if (pod.get("status") or {}).get("phase") != "Pending":
            continue
        if (found := _pending(pod, observed.events.get(pod["metadata"]["name"], []))) is not None:
            return found
    return _refused_pods(observed, job) if _lacks_pods(observed, job) else None


def needs_events(observed: Observed, job: KubeObject, now: datetime) -> list[tuple[str, str]]:
    """Return (kind, name) of the objects whose events must be read, because nothing has happened for too long."""
    pods = [pod for pod in observed.pods_of(job) if _is_being_made(pod) and age(pod, now) >= QUIET_SECONDS]
    wanted = [("Pod", pod["metadata"]["name"]) for pod in pods]
    if _lacks_pods(observed, job) and age(job, now) >= QUIET_SECONDS:
        wanted.append(("Job", job["metadata"]["name"]))
    return wanted


def ending(pod: KubeObject, now: datetime, before: str = "") -> PendingReason:
    """Return the reason to wait for a pod to end, with what to do where it does not.

    Args:
        pod: The pod.
        now: The time.
        before: What begins when it has ended, in words after a space.
    """
    message, left = f"Waits for pod {pod['metadata']['name']} to end{before}", until_lost(pod, now)
    if left is None or left > 0:
        return PendingReason(OperatorReason.PODS_ENDING, message, left)
    node = (pod.get("spec") or {}).get("nodeName") or "NODE"
    remedy = f"It is overdue: if its node {node} is gone, run `kubectl delete node {node}`"
    return PendingReason(OperatorReason.PODS_ENDING, f"{message}. {remedy}")


def until_lost(pod: KubeObject, now: datetime) -> float | None:
    """Return the seconds until a pod that is being deleted counts as lost; None if it has ended or is not deleted."""
    until = pod["metadata"].get("deletionTimestamp")  # with the grace period in it
    if not until or is_terminal(pod):
        return None
    return (time_of(until) - now).total_seconds() + LOST_SECONDS


def look_again(observed: Observed, job: KubeObject, now: datetime) -> float | None:
    """Return the seconds after which events may have to be read or a pod is lost; None if statuses are enough."""
    if _is_over(job):
        return None
    quiet = [age(pod, now) for pod in observed.pods_of(job) if _is_being_made(pod)]
    if _lacks_pods(observed, job):
        quiet.append(age(job, now))
    waits = [QUIET_SECONDS - seconds for seconds in quiet if seconds < QUIET_SECONDS]
    waits += [seconds for pod in observed.pods_of(job) if (seconds := until_lost(pod, now)) is not None and seconds > 0]
    return max(1.0, min(waits)) if waits else None


def refusal(error: ApplyError) -> PendingReason:
    """Return the reason to wait after the API server refused a child, for refusals that can go away."""
    what = f"{error.ref.kind} {error.ref.name}"
    if exceeds_quota(error.message):
        message = f"{error.message}. Raise the quota of the namespace, or wait until others free it"
        return PendingReason(OperatorReason.QUOTA_EXCEEDED, message, _LOOK_AGAIN)
    if error.status == 409:
        return PendingReason(OperatorReason.NAME_TAKEN, f"{error.message}", _LOOK_AGAIN)
    if error.status == 403:
        message = f"{what} may not be made: {error.message}. Allow it, by the operator's role or the cluster's policies"
        return PendingReason(OperatorReason.FORBIDDEN, message, _LOOK_AGAIN)
    return PendingReason(OperatorReason.API_ERROR, f"{what} cannot be made: {error.message}", _LOOK_AGAIN)


def missing(kind: str, name: str) -> PendingReason:
    """Return the reason to wait for an object that the job refers to."""
    message = f"{kind} {name} is not in this namespace. Create it, and the job goes on by itself"
    return PendingReason(OperatorReason.MISSING_REFERENCE, message, _LOOK_FOR_MISSING)


def _pending(pod: KubeObject, events: list[KubeObject]) -> PendingReason | None:
    scheduled = condition(pod, "PodScheduled")
    words = str(scheduled.get("message") or "")
    if scheduled.get("status") == "False":
        if (found := _missing_in(words)) is not None:
            return found
        if unschedulable(pod) is not None:
            stage = stage_of(pod)
            field = "resources" if stage in (Stage.TRAIN, None) else f"stages.{stage.value}"
            message = f"No node takes the pod: {words.rstrip('.')}. Add such a node, or ask for less under {field}"
            return PendingReason(OperatorReason.UNSCHEDULABLE, message)
        gated = scheduled.get("reason") == OperatorReason.SCHEDULING_GATED
        kind = OperatorReason.SCHEDULING_GATED if gated else OperatorReason.UNSCHEDULABLE
        return PendingReason(kind, words) if words else None
    reason, words = waiting_of({"state": container_state(pod)})
    if reason in PULL_REASONS:
        return PendingReason(OperatorReason.IMAGE_PULL_FAILED, _image(pod, reason, words))
    if reason in CONFIG_REASONS:
        message = f"The container cannot be started ({reason}): {words}"
        return _missing_in(words) or PendingReason(OperatorReason.CONTAINER_NOT_STARTED, message)
    return _mount(events) if _is_being_made(pod) else None


def _image(pod: KubeObject, reason: str, words: str) -> str:
    image = pod["spec"]["containers"][0]["image"]
    said = f": {words.rstrip('.')}" if words else ""
    remedy = "Correct the image, or give the Secret of its registry as podTemplate.imagePullSecrets"
    return f"Image {image} cannot be pulled ({reason}){said}. {remedy}"


def _mount(events: list[KubeObject]) -> PendingReason | None:
    """Return why a scheduled pod gets no container, from its newest warning."""
    for event in reversed(events):
        if event.get("type") != "Warning" or event.get("reason") == "FailedScheduling":
            continue
        words = text_of(event)
        if (found := _missing_in(words)) is not None:
            return found
        return PendingReason(
            OperatorReason.VOLUME_NOT_MOUNTED,
            f"The pod cannot be started ({event.get('reason')}): {words}",
            _LOOK_AGAIN,
        )
    return None


def _refused_pods(observed: Observed, job: KubeObject) -> PendingReason | None:
    """Return why a Job gets a pod too few, if that was not before it got the newest of those that it has."""
    pods = observed.pods_of(job)
    newest = pods[-1]["metadata"].get("creationTimestamp") if pods else None
    for event in reversed(observed.events.get(job["metadata"]["name"], [])):
        if event.get("reason") != "FailedCreate":
            continue
        seen = last_seen(event)
        if newest and seen and time_of(seen) < time_of(newest):
            return None
        words = text_of(event)
        if exceeds_quota(words):
            message = f"{words.rstrip('.')}. Raise the quota of the namespace, or wait until others free it"
            return PendingReason(OperatorReason.QUOTA_EXCEEDED, message, _LOOK_AGAIN)
        message = f"The namespace takes no such pod: {words.rstrip('.')}. Change its policies, or podTemplate"
        return PendingReason(OperatorReason.POD_FORBIDDEN, message, _LOOK_AGAIN)
    return None


def _missing_in(words: str) -> PendingReason | None:
    """Return the reason for an object that a message says does not exist."""
    found = missing_in(words)
    if found is None or found.key is None:
        return missing(found.kind, found.name) if found else None
    message = f"{found.kind} {found.name} has no key {found.key}. Add it, and the job goes on by itself"
    return PendingReason(OperatorReason.MISSING_REFERENCE, message)


def _is_lost(pod: KubeObject, now: datetime) -> bool:
    """Return whether a deleted pod should have ended by now: nobody ends it on a node that is gone."""
    left = until_lost(pod, now)
    return left is not None and left <= 0


def _is_being_made(pod: KubeObject) -> bool:
    """Return whether a pod is scheduled, but no container status says why it does not run."""
    if (pod.get("status") or {}).get("phase") != "Pending" or not holds(pod, "PodScheduled"):
        return False
    reason, _ = waiting_of({"state": container_state(pod)})
    return not reason or reason in SETTING_UP


def _lacks_pods(observed: Observed, job: KubeObject) -> bool:
    """Return whether a Job is to have more pods than it has: one for each node, but for those that have failed."""
    pods = [pod for pod in observed.pods_of(job) if (pod.get("status") or {}).get("phase") != "Failed"]
    return not _is_over(job) and len(pods) < int((job.get("spec") or {}).get("parallelism") or 1)


def _is_over(job: KubeObject) -> bool:
    """Return whether a Job has ended or is suspended, and gets no more pods."""
    return has_ended(job) or bool((job.get("spec") or {}).get("suspend"))
