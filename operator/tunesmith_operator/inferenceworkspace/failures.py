"""Why a pod does not serve, from what the kubelet and the scheduler report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith_api.contract import SERVER_INVALID_ARTIFACT, SERVER_OUT_OF_MEMORY, is_final, reason_of
from tunesmith_api.status.reasons import OperatorReason
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.inferenceworkspace.draft import FETCH_DRAFT
from tunesmith_operator.inferenceworkspace.pod import FETCH
from tunesmith_operator.inferenceworkspace.source import DRAFT_MODEL, MODEL
from tunesmith_operator.pods.facts import (
    CONFIG_REASONS,
    FINAL_PULL_REASONS,
    PULL_REASONS,
    condition,
    exceeds_quota,
    missing_in,
    unschedulable,
    waiting_of,
)

_NOT_FOUND = {
    "Secret": OperatorReason.SECRET_NOT_FOUND,
    "ConfigMap": OperatorReason.CONFIG_MAP_NOT_FOUND,
    "PersistentVolumeClaim": OperatorReason.CLAIM_NOT_FOUND,
}
# A container that has failed this often is assumed to fail always.
_SURE, _SURE_OF_CRASHES = 2, 3
_LONGEST = 600
# As the scheduler writes it. Resources of devices have a domain; cpu and memory have none.
_INSUFFICIENT_DEVICE = re.compile(r"Insufficient ([a-z0-9.-]+/[\w.-]*\w)")


@dataclass(frozen=True)
class PodProblem:
    """Why a pod does not serve.

    Attributes:
        reason: One word of the closed list.
        message: What happened, as reported.
        remedy: What to do.
        final: Whether it will not go away by itself.
    """

    reason: str
    message: str
    remedy: str
    final: bool = False

    def __str__(self) -> str:
        return f"{self.message.rstrip('.')}. {self.remedy}" if self.remedy else self.message


def most_severe(pods: Iterable[KubeObject], events: Mapping[str, str]) -> PodProblem | None:
    """Return the most severe problem of some pods; None if they have none.

    Args:
        pods: The pods.
        events: Newest warning about pods that cannot start, by the pod's name.
    """
    problems = [found for pod in pods if (found := problem_of(pod, events.get(pod["metadata"]["name"]))) is not None]
    return min(problems, key=lambda problem: not problem.final, default=None)


def problem_of(pod: KubeObject, event: str | None = None) -> PodProblem | None:
    """Return why a pod does not serve; None if no problem is visible."""
    status: Mapping[str, Any] = pod.get("status") or {}
    if (why := unschedulable(pod)) is not None:
        return _unschedulable(why)
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        if (found := _container_problem(container)) is not None:
            return found
    if status.get("phase") == "Failed":
        message = str(status.get("message") or status.get("reason") or "no reason was given")
        return PodProblem(OperatorReason.EVICTED, f"The pod was ended: {message}", "Another one takes its place")
    if event:
        return PodProblem(
            OperatorReason.VOLUME_NOT_MOUNTED, event, "Check the claim and its volume; it is tried again by itself"
        )
    return None


def refusal_of(deployment: KubeObject) -> PodProblem | None:
    """Return why the pods of a Deployment cannot be created: a quota or a policy; None if they can."""
    failure = condition(deployment, "ReplicaFailure")
    if failure.get("status") != "True":
        return None
    message = str(failure.get("message") or failure.get("reason"))
    if exceeds_quota(message):
        remedy = "Free some of the quota, or lower spec.resources or spec.replicas; it goes on by itself"
        return PodProblem(OperatorReason.QUOTA_EXCEEDED, message, remedy)
    return PodProblem(OperatorReason.PODS_FORBIDDEN, message, "Ask whoever set the policy that refuses them")


def _container_problem(container: Mapping[str, Any]) -> PodProblem | None:
    if container.get("ready"):
        return None
    reason, message = waiting_of(container)
    if reason in PULL_REASONS:
        image = container.get("image", "the image")
        remedy = "Check the image's name, the registry and podTemplate.imagePullSecrets"
        return PodProblem(
            OperatorReason.IMAGE_PULL_FAILED,
            f"{image} cannot be pulled: {message or reason}",
            remedy,
            reason in FINAL_PULL_REASONS,
        )
    if reason in CONFIG_REASONS:
        return _not_created(message or reason)
    return _ended(container)


def _not_created(message: str) -> PodProblem:
    found = missing_in(message)
    if found is None:
        return PodProblem(OperatorReason.CONTAINER_NOT_CREATED, message, "It is tried again by itself")
    if found.key is None:
        text = f"There is no {found.kind} {found.name} in this namespace"
        remedy = "Make it, or correct its name; the servers then start by themselves"
    else:
        text = f"{found.kind} {found.name} has no key {found.key}"
        remedy = "Add it, or correct the key; the servers then start by themselves"
    return PodProblem(_NOT_FOUND[found.kind], text, remedy)


def _ended(container: Mapping[str, Any]) -> PodProblem | None:
    """Return why a container failed; None if it has not."""
    restarts = int(container.get("restartCount") or 0)
    state = container.get("state") or {}
    end = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    code = end.get("exitCode", 0)
    if code == 0:
        return None
    failures = restarts + ("running" not in state)
    text = _termination_message(str(end.get("message") or ""))
    is_fetch = (name := container.get("name")) in (FETCH, FETCH_DRAFT)
    if end.get("reason") == "OOMKilled" or (code == SERVER_OUT_OF_MEMORY and not is_fetch):
        return PodProblem(
            "OutOfMemory",
            text if code == SERVER_OUT_OF_MEMORY and text else "The server was ended for using more memory than it may",
            "Raise spec.resources.memory, or lower prefixCacheMemory, contextLength or maxBatchSize of spec.runtime",
            failures >= _SURE,
        )
    if is_fetch:
        known = reason_of(code)
        final = known is not None and is_final(known) and failures >= _SURE
        message = f"The artifact cannot be fetched: {text or f'exit code {code}'}"
        field = MODEL if name == FETCH else DRAFT_MODEL
        remedy = f"Check {field}.uri and {field}.secretRef"
        return PodProblem(known.value if known else "FetchFailed", message, remedy, final)
    if code == SERVER_INVALID_ARTIFACT:
        return PodProblem(
            OperatorReason.INVALID_ARTIFACT, text or "The server refuses the artifact", "", failures >= _SURE
        )
    message = f"The server ended with exit code {code}" + (f": {text}" if text else "")
    return PodProblem(
        OperatorReason.SERVER_FAILED, message, "See its log: kubectl logs --previous", failures >= _SURE_OF_CRASHES
    )


def _termination_message(text: str) -> str:
    """Return the message and remedy of a termination message, or the last line of the log."""
    try:
        outcome = json.loads(text)
        if isinstance(outcome, dict) and outcome.get("message"):
            return ". ".join(str(outcome[key]) for key in ("message", "remedy") if outcome.get(key))[:_LONGEST]
    except ValueError:
        pass
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("tunesmith-serving: ")[-_LONGEST:] if lines else ""


def _unschedulable(message: str) -> PodProblem:
    if (found := missing_in(message)) is not None:
        text = f"There is no {found.kind} {found.name} in this namespace"
        remedy = "Make it, or correct spec.model; the servers then start by themselves"
        return PodProblem(_NOT_FOUND[found.kind], text, remedy)
    remedy = "Add nodes or free some, or correct spec.resources; it goes on by itself"
    if device := _INSUFFICIENT_DEVICE.search(message):
        remedy = (
            f"A server needs a free {device[1]}, and a rollout one more than there are servers: add such nodes, see to "
            "their device plugin, or correct spec.resources (accelerators, resourceName); it goes on by itself"
        )
    return PodProblem(OperatorReason.UNSCHEDULABLE, f"No node takes the server: {message}", remedy)
