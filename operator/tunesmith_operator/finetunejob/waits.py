"""What keeps a stage from running right now, and can pass: by the facts of its Job, its pods and their events."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from tunesmith_operator.engine.reconciler import ApplyError, Object
from tunesmith_operator.finetunejob.containers import container_state
from tunesmith_operator.finetunejob.observed import Observed, age, condition, holds

QUIET_SECONDS = 20.0
"""Time after which events are asked why a Job has no pod, or a scheduled pod no container."""
_LOOK_AGAIN = 15.0
_LOOK_FOR_MISSING = 5.0

_IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "RegistryUnavailable")
_CONFIG_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_NOT_FOUND = re.compile(r'((?:secret|configmap|persistentvolumeclaim)s?) "([^"]+)" not found', re.I)
_NO_KEY = re.compile(r"couldn't find key (\S+) in (Secret|ConfigMap) (\S+)")
_KINDS = {"secret": "Secret", "configmap": "ConfigMap", "persistentvolumeclaim": "PersistentVolumeClaim"}


@dataclass(frozen=True)
class Wait:
    """Why nothing happens.

    Attributes:
        reason: The condition's reason.
        message: What is waited for, and what to do.
        look_again: Seconds after which to look again; None where an event tells of it.
    """

    reason: str
    message: str
    look_again: float | None = None


def wait_of(observed: Observed, job: Object) -> Wait | None:
    """Return what a stage's Job waits for, or None when it runs (or has hardly begun)."""
    pods = [pod for pod in observed.pods_of(job) if (pod.get("status") or {}).get("phase") == "Pending"]
    for pod in pods:
        if (found := _pending(pod, observed.events.get(pod["metadata"]["name"], []))) is not None:
            return found
    if not observed.pods_of(job) and (refused := _refused_pods(observed.events.get(job["metadata"]["name"], []))):
        return refused
    return None


def needs_events(observed: Observed, job: Object, now: datetime) -> list[tuple[str, str]]:
    """Return the (kind, name) of what only events can tell about, because nothing has happened for too long."""
    pods = observed.pods_of(job)
    if not pods:
        is_quiet = not (job.get("spec") or {}).get("suspend") and age(job, now) >= QUIET_SECONDS
        return [("Job", job["metadata"]["name"])] if is_quiet and not _has_ended(job) else []
    return [("Pod", pod["metadata"]["name"]) for pod in pods if _is_being_made(pod) and age(pod, now) >= QUIET_SECONDS]


def look_again(observed: Observed, job: Object, now: datetime) -> float | None:
    """Return the seconds after which events may have to be asked; None when pods tell all there is."""
    pods = observed.pods_of(job)
    if _has_ended(job) or (job.get("spec") or {}).get("suspend"):
        return None
    quiet = [age(pod, now) for pod in pods if _is_being_made(pod)] if pods else [age(job, now)]
    return max(1.0, QUIET_SECONDS - min(quiet)) if quiet and min(quiet) < QUIET_SECONDS else None


def refusal(error: ApplyError) -> Wait:
    """Return what an answer of the API server means that refused a child, where that can pass."""
    what = f"{error.ref.kind} {error.ref.name}"
    if "exceeded quota" in error.message:
        message = f"{error.message}. Raise the quota of the namespace, or wait until others free it"
        return Wait("QuotaExceeded", message, _LOOK_AGAIN)
    if error.status == 409:
        return Wait("NameTaken", f"{error.message}", _LOOK_AGAIN)
    if error.status == 403:
        message = f"{what} may not be made: {error.message}. Allow it, by the operator's role or the cluster's policies"
        return Wait("Forbidden", message, _LOOK_AGAIN)
    return Wait("ApiError", f"{what} cannot be made: {error.message}", _LOOK_AGAIN)


def missing(kind: str, name: str) -> Wait:
    """Return the wait for an object that the job names."""
    message = f"{kind} {name} is not in this namespace. Create it, and the job goes on by itself"
    return Wait("MissingReference", message, _LOOK_FOR_MISSING)


def _pending(pod: Object, events: list[Object]) -> Wait | None:
    scheduled = condition(pod, "PodScheduled")
    words = str(scheduled.get("message") or "")
    if scheduled.get("status") == "False":
        if (found := _missing_in(words)) is not None:
            return found
        if scheduled.get("reason") == "Unschedulable":
            message = f"No node takes the pod: {words.rstrip('.')}. Add such a node, or ask for less under resources"
            return Wait("Unschedulable", message)
        return Wait(str(scheduled.get("reason") or "Unschedulable"), words) if words else None
    waiting = container_state(pod).get("waiting") or {}
    reason, words = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    if reason in _IMAGE_REASONS:
        return Wait("ImagePullFailed", _image(pod, reason, words))
    if reason in _CONFIG_REASONS:
        return _missing_in(words) or Wait("ContainerNotStarted", f"The container cannot be started ({reason}): {words}")
    return _mount(events) if _is_being_made(pod) else None


def _image(pod: Object, reason: str, words: str) -> str:
    image = pod["spec"]["containers"][0]["image"]
    said = f": {words.rstrip('.')}" if words else ""
    remedy = "Correct the image, or give the Secret of its registry as podTemplate.imagePullSecrets"
    return f"Image {image} cannot be pulled ({reason}){said}. {remedy}"


def _mount(events: list[Object]) -> Wait | None:
    """Return why a pod that has a node gets no container: its newest warning."""
    for event in reversed(events):
        if event.get("type") != "Warning" or event.get("reason") == "FailedScheduling":
            continue
        words = str(event.get("note") or event.get("message") or "")
        if (found := _missing_in(words)) is not None:
            return found
        return Wait("VolumeNotMounted", f"The pod cannot be started ({event.get('reason')}): {words}", _LOOK_AGAIN)
    return None


def _refused_pods(events: list[Object]) -> Wait | None:
    """Return why a Job gets no pod."""
    for event in reversed(events):
        if event.get("reason") != "FailedCreate":
            continue
        words = str(event.get("note") or event.get("message") or "")
        if "exceeded quota" in words:
            message = f"{words.rstrip('.')}. Raise the quota of the namespace, or wait until others free it"
            return Wait("QuotaExceeded", message, _LOOK_AGAIN)
        message = f"The namespace takes no such pod: {words.rstrip('.')}. Change its policies, or podTemplate"
        return Wait("PodForbidden", message, _LOOK_AGAIN)
    return None


def _missing_in(words: str) -> Wait | None:
    """Return what a message says is not there."""
    if found := _NOT_FOUND.search(words):
        return missing(_KINDS[found[1].lower().rstrip("s")], found[2].rpartition("/")[2])
    if found := _NO_KEY.search(words):
        name = found[3].rpartition("/")[2]
        return Wait(
            "MissingReference", f"{found[2]} {name} has no key {found[1]}. Add it, and the job goes on by itself"
        )
    return None


def _is_being_made(pod: Object) -> bool:
    """Return whether a pod has a node, but no container that says why it is not there."""
    if (pod.get("status") or {}).get("phase") != "Pending" or not holds(pod, "PodScheduled"):
        return False
    waiting = container_state(pod).get("waiting") or {}
    return waiting.get("reason", "ContainerCreating") in ("ContainerCreating", "PodInitializing")


def _has_ended(job: Object) -> bool:
    return holds(job, "Complete") or holds(job, "Failed")
