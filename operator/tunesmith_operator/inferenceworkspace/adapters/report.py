"""What the status says about adapters, from the list and the servers' answers: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith_api.status import adapters as state
from tunesmith_api.status.adapters import ADAPTERS_READY, adapter_state
from tunesmith_api.status.reasons import OperatorReason
from tunesmith_operator.engine.reconciler import Annotation, EventSpec, KubeObject, ObjectRef
from tunesmith_operator.inferenceworkspace.adapters.lists import SYNCED, synced_value, version_of
from tunesmith_operator.inferenceworkspace.metadata import REVISION
from tunesmith_operator.inferenceworkspace.model import Adapter, Adapters, Answer, Target
from tunesmith_operator.pods.facts import condition, holds

Status = dict[str, Any]
PENDING_SECONDS, FAILED_SECONDS = 1.0, 15.0
"""Seconds after which servers are asked again that have not loaded an adapter yet, and that could not load one or did
not answer."""


def living(pods: Sequence[KubeObject], target: Target) -> list[KubeObject]:
    """Return the pods of a revision that neither end nor have ended."""
    return [
        pod
        for pod in pods
        if pod["metadata"]["labels"].get(REVISION) == target.revision
        and not pod["metadata"].get("deletionTimestamp")
        and (pod.get("status") or {}).get("phase") not in ("Failed", "Succeeded")
    ]


def askable(pods: Sequence[KubeObject], target: Target) -> list[KubeObject]:
    """Return the pods of a revision whose servers can be asked."""
    return [pod for pod in living(pods, target) if holds(pod, "Ready") and pod["status"].get("podIP")]


def notifications(
    pods: Sequence[KubeObject], target: Target, adapters: Adapters, answers: Mapping[str, Answer], now: int
) -> tuple[Annotation, ...]:
    """Return the annotations that make kubelets mount the newest list."""
    version = version_of(adapters)
    found = []
    for pod in living(pods, target):
        name = pod["metadata"]["name"]
        answer = answers.get(name)
        is_behind = answer is not None and answer.problem is None and answer.version != version
        found.append(Annotation(ObjectRef("Pod", name), SYNCED, synced_value(pod, version, now, is_behind=is_behind)))
    return tuple(found)


def with_adapters(
    status: Status, adapters: Adapters | None, answers: Mapping[str, Answer], ready: int
) -> tuple[Status, float | None]:
    """Return the status with the state of each adapter, and the seconds after which to look again.

    Args:
        status: The status.
        adapters: The adapters; None if the workspace has none.
        answers: What the servers say, by the pod's name.
        ready: Servers that are ready.
    """
    if adapters is None:
        return state.without_adapters(status), None
    version = version_of(adapters)
    told = [_state(adapter, version, list(answers.values()), ready) for adapter in adapters.sent]
    kept = [
        adapter_state(item.name, "Failed" if item.failed else "Pending", item.message, item.digest)
        for item in adapters.withheld
    ]
    are_silent = any(answer.problem is not None for answer in answers.values())
    soon = FAILED_SECONDS if are_silent else PENDING_SECONDS
    waits = soon if answers and any(item["state"] == "Pending" for item in told) else None
    fails = FAILED_SECONDS if any(item["state"] == "Failed" for item in told) else None
    return state.with_adapters(status, (*told, *kept)), waits or fails


def news(before: Status, after: Status) -> tuple[EventSpec, ...]:
    """Return an event if adapters have been loaded, or have failed."""
    old, new = condition({"status": before}, ADAPTERS_READY), condition({"status": after}, ADAPTERS_READY)
    if not new or (old.get("reason"), old.get("message")) == (new["reason"], new["message"]):
        return ()
    if new["reason"] == OperatorReason.ADAPTERS_PENDING:
        return ()
    return (EventSpec("Warning" if new["status"] == "False" else "Normal", new["reason"], new["message"]),)


def _state(adapter: Adapter, version: str, answers: Sequence[Answer], ready: int) -> Status:
    """Return the state of an adapter that the servers are told to load."""
    name, digest = adapter.name, adapter.digest
    if not ready or not answers:
        return adapter_state(name, "Pending", "No server is ready", digest)
    states = [answer.states.get(name, ("Pending", "")) for answer in answers if answer.version == version]
    failed = [message for said, message in states if said == "Failed"]
    if failed:
        where = f" ({len(failed)} of {len(answers)} servers)" if len(answers) > 1 else ""
        return adapter_state(name, "Failed", (failed[0] or "The server gives no reason") + where, digest)
    problem = next((answer.problem for answer in answers if answer.problem), None)
    if problem is not None:
        return adapter_state(name, "Pending", f"It is not known whether it is loaded: {problem}", digest)
    loaded = sum(said == "Loaded" for said, _ in states)
    if loaded == len(answers):
        return adapter_state(name, "Loaded", digest=digest)
    return adapter_state(name, "Pending", f"{loaded} of {len(answers)} servers have loaded it", digest)
