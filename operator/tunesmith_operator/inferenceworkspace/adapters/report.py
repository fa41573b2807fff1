"""What the status says about adapters, from the list and the servers' answers: pure.

Ready says whether the model is served. An adapter that fails leaves it True: the condition AdaptersReady is then False.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith_api.status.conditions import with_condition
from tunesmith_api.status.reasons import OperatorReason
from tunesmith_operator.engine.reconciler import Annotation, EventSpec, KubeObject, ObjectRef
from tunesmith_operator.inferenceworkspace.adapters.lists import SYNCED, synced_value, version_of
from tunesmith_operator.inferenceworkspace.metadata import REVISION
from tunesmith_operator.inferenceworkspace.model import Adapter, Adapters, Answer, Target
from tunesmith_operator.pods.facts import condition, holds

Status = dict[str, Any]
CONDITION = "AdaptersReady"
PENDING_SECONDS, FAILED_SECONDS = 1.0, 15.0
"""Seconds after which servers are asked again that have not loaded an adapter yet, and that could not load one."""
_TOLD = 5
_LONGEST = 512


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
        conditions = [item for item in status.get("conditions") or () if item["type"] != CONDITION]
        return {**{key: value for key, value in status.items() if key != "adapters"}, "conditions": conditions}, None
    version = version_of(adapters)
    told = [_state(adapter, version, list(answers.values()), ready) for adapter in adapters.sent]
    kept = [
        _entry(item.name, item.digest, "Failed" if item.failed else "Pending", item.message)
        for item in adapters.withheld
    ]
    states = sorted((*told, *kept), key=lambda item: str(item["name"]))
    status = {**status, "adapters": states}
    reason, value, message = _summary(states)
    waits = PENDING_SECONDS if answers and any(item["state"] == "Pending" for item in told) else None
    fails = FAILED_SECONDS if any(item["state"] == "Failed" for item in told) else None
    return with_condition(status, CONDITION, value, reason, message), waits or fails


def news(before: Status, after: Status) -> tuple[EventSpec, ...]:
    """Return an event if adapters have been loaded, or have failed."""
    old, new = condition({"status": before}, CONDITION), condition({"status": after}, CONDITION)
    if not new or (old.get("reason"), old.get("message")) == (new["reason"], new["message"]):
        return ()
    if new["reason"] == OperatorReason.ADAPTERS_PENDING:
        return ()
    return (EventSpec("Warning" if new["status"] == "False" else "Normal", new["reason"], new["message"]),)


def _state(adapter: Adapter, version: str, answers: Sequence[Answer], ready: int) -> Status:
    """Return the state of an adapter that the servers are told to load."""
    if not ready or not answers:
        return _entry(adapter.name, adapter.digest, "Pending", "No server is ready")
    states = [answer.states.get(adapter.name, ("Pending", "")) for answer in answers if answer.version == version]
    failed = [message for state, message in states if state == "Failed"]
    if failed:
        where = f" ({len(failed)} of {len(answers)} servers)" if len(answers) > 1 else ""
        return _entry(adapter.name, adapter.digest, "Failed", (failed[0] or "The server gives no reason") + where)
    problem = next((answer.problem for answer in answers if answer.problem), None)
    if problem is not None:
        return _entry(adapter.name, adapter.digest, "Pending", f"It is not known whether it is loaded: {problem}")
    loaded = sum(state == "Loaded" for state, _ in states)
    if loaded == len(answers):
        return _entry(adapter.name, adapter.digest, "Loaded", None)
    return _entry(adapter.name, adapter.digest, "Pending", f"{loaded} of {len(answers)} servers have loaded it")


def _entry(name: str, digest: str | None, state: str, message: str | None) -> Status:
    values = {"name": name, "digest": digest, "state": state, "message": message and message[:_LONGEST]}
    return {key: value for key, value in values.items() if value is not None}


def _summary(states: Sequence[Status]) -> tuple[str, str, str]:
    """Return reason, value and message of the condition."""
    for state, reason, value in (
        ("Failed", OperatorReason.ADAPTER_FAILED, "False"),
        ("Pending", OperatorReason.ADAPTERS_PENDING, "Unknown"),
    ):
        if found := [item for item in states if item["state"] == state]:
            texts = [f"{item['name']}: {item['message'].rstrip('.')}" for item in found[:_TOLD]]
            more = f". And {len(found) - _TOLD} more: see status.adapters" if len(found) > _TOLD else ""
            return reason, value, ". ".join(texts) + more
    return OperatorReason.ADAPTERS_LOADED, "True", f"Adapters that are served: {len(states)}"
