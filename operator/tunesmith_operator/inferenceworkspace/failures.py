"""Why a pod does not serve, from what the kubelet and the scheduler say of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith_api.contract import SERVER_INVALID_ARTIFACT, SERVER_OUT_OF_MEMORY, is_final, reason_of
from tunesmith_operator.engine.reconciler import Object
from tunesmith_operator.inferenceworkspace.pod import FETCH

VOLUME_NOT_MOUNTED = "VolumeNotMounted"

# A container that has failed this often is taken to fail always.
_SURE, _SURE_OF_CRASHES = 2, 3
_LONGEST = 600
_PULL = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
_PULL_FINAL = {"InvalidImageName", "ErrImageNeverPull"}
_CONFIG = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}


@dataclass(frozen=True)
class Trouble:
    """Why a pod does not serve.

    Attributes:
        reason: One word of the closed list.
        message: What happened, in the words of whoever saw it.
        remedy: What to do.
        final: Whether it will not get better by itself.
    """

    reason: str
    message: str
    remedy: str
    final: bool = False

    def __str__(self) -> str:
        return f"{self.message.rstrip('.')}. {self.remedy}" if self.remedy else self.message


def worst(pods: Iterable[Object], events: Mapping[str, str]) -> Trouble | None:
    """Return the most telling trouble of some pods, or None when none has any.

    Args:
        pods: The pods.
        events: What keeps a pod from starting, by its name, where only events tell.
    """
    troubles = [found for pod in pods if (found := trouble_of(pod, events.get(pod["metadata"]["name"]))) is not None]
    return min(troubles, key=lambda trouble: not trouble.final, default=None)


def trouble_of(pod: Object, event: str | None = None) -> Trouble | None:
    """Return why a pod does not serve, or None when nothing is wrong with it as far as one can see."""
    status: Mapping[str, Any] = pod.get("status") or {}
    conditions = {item["type"]: item for item in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("reason") == "Unschedulable":
        return _unschedulable(str(scheduled.get("message") or "the scheduler found no node"))
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        if (found := _container_trouble(container)) is not None:
            return found
    if status.get("phase") == "Failed":
        message = str(status.get("message") or status.get("reason") or "no reason was given")
        return Trouble("Evicted", f"The pod was ended: {message}", "Another one takes its place")
    if event:
        return Trouble(VOLUME_NOT_MOUNTED, event, "Check the claim and its volume; it is tried again by itself")
    return None


def refusal_of(deployment: Object) -> Trouble | None:
    """Return why the pods of a Deployment are not even created: a quota, or a policy."""
    conditions = {item["type"]: item for item in (deployment.get("status") or {}).get("conditions") or []}
    failure = conditions.get("ReplicaFailure", {})
    if failure.get("status") != "True":
        return None
    message = str(failure.get("message") or failure.get("reason"))
    if "exceeded quota" in message:
        remedy = "Free some of the quota, or lower spec.resources or spec.replicas; it goes on by itself"
        return Trouble("QuotaExceeded", message, remedy)
    return Trouble("PodsForbidden", message, "Ask whoever set the policy that refuses them")


def _container_trouble(container: Mapping[str, Any]) -> Trouble | None:
    if container.get("ready"):
        return None
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason, message = waiting.get("reason", ""), str(waiting.get("message") or "")
    if reason in _PULL:
        image = container.get("image", "the image")
        remedy = "Check the image's name, the registry and podTemplate.imagePullSecrets"
        return Trouble(
            "ImagePullFailed", f"{image} cannot be pulled: {message or reason}", remedy, reason in _PULL_FINAL
        )
    if reason in _CONFIG:
        return _not_created(message or reason)
    return _ended(container)


def _not_created(message: str) -> Trouble:
    if missing := re.search(r"(secret|configmap) \"([^\"]+)\" not found", message):
        kind = {"secret": "Secret", "configmap": "ConfigMap"}[missing[1]]
        text = f"There is no {kind} {missing[2]} in this namespace"
        return Trouble(f"{kind}NotFound", text, "Make it, or correct its name; the servers then start by themselves")
    if missing := re.search(r"couldn't find key (\S+) in (Secret|ConfigMap) (\S+)", message):
        text = f"{missing[2]} {missing[3].split('/')[-1]} has no key {missing[1]}"
        return Trouble(
            f"{missing[2]}NotFound", text, "Add it, or correct the key; the servers then start by themselves"
        )
    return Trouble("ContainerNotCreated", message, "It is tried again by itself")


def _ended(container: Mapping[str, Any]) -> Trouble | None:
    """Return why a container ended, when it did and not well."""
    restarts = int(container.get("restartCount") or 0)
    state = container.get("state") or {}
    end = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    code = end.get("exitCode", 0)
    if code == 0:
        return None
    failures = restarts + ("running" not in state)
    text = _termination_message(str(end.get("message") or ""))
    is_fetch = container.get("name") == FETCH
    if end.get("reason") == "OOMKilled" or (code == SERVER_OUT_OF_MEMORY and not is_fetch):
        return Trouble(
            "OutOfMemory",
            text if code == SERVER_OUT_OF_MEMORY and text else "The server was ended for using more memory than it may",
            "Raise spec.resources.memory, or lower spec.runtime.contextLength or spec.runtime.maxBatchSize",
            failures >= _SURE,
        )
    if is_fetch:
        known = reason_of(code)
        final = known is not None and is_final(known) and failures >= _SURE
        message = f"The artifact cannot be fetched: {text or f'exit code {code}'}"
        return Trouble(
            known.value if known else "FetchFailed", message, "Check spec.model.uri and spec.model.secretRef", final
        )
    if code == SERVER_INVALID_ARTIFACT:
        return Trouble("InvalidArtifact", text or "The server refuses the artifact", "", failures >= _SURE)
    message = f"The server ended with exit code {code}" + (f": {text}" if text else "")
    return Trouble("ServerFailed", message, "See its log: kubectl logs --previous", failures >= _SURE_OF_CRASHES)


def _termination_message(text: str) -> str:
    """Return what a container said at its end: the message of an outcome, or the last line of its log."""
    try:
        outcome = json.loads(text)
        if isinstance(outcome, dict) and outcome.get("message"):
            return ". ".join(str(outcome[key]) for key in ("message", "remedy") if outcome.get(key))[:_LONGEST]
    except ValueError:
        pass
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("tunesmith-serving: ")[-_LONGEST:] if lines else ""


def _unschedulable(message: str) -> Trouble:
    if missing := re.search(r"persistentvolumeclaim \"([^\"]+)\" not found", message):
        text = f"There is no PersistentVolumeClaim {missing[1]} in this namespace"
        return Trouble("ClaimNotFound", text, "Make it, or correct spec.model; the servers then start by themselves")
    remedy = "Add nodes or free some, or correct spec.resources; it goes on by itself"
    return Trouble("Unschedulable", f"No node takes the server: {message}", remedy)
