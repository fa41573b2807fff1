"""Reads the status and events of pods, for both kinds. Each kind interprets them by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith_operator.engine.reconciler import KubeObject

PULL_REASONS = {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "RegistryUnavailable"}
"""A container waits for these reasons while its image cannot be pulled."""
FINAL_PULL_REASONS = {"InvalidImageName", "ErrImageNeverPull"}
"""Those of them that do not go away by themselves."""
CONFIG_REASONS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
"""A container waits for these reasons while it cannot be created."""
SETTING_UP = {"ContainerCreating", "PodInitializing"}
"""A container waits for these reasons while its pod is set up: volumes, images, init containers."""

_NOT_FOUND = re.compile(r'((?:secret|configmap|persistentvolumeclaim)s?) "([^"]+)" not found', re.I)
_NO_KEY = re.compile(r"couldn't find key (\S+) in (Secret|ConfigMap) (\S+)")
_KINDS = {"secret": "Secret", "configmap": "ConfigMap", "persistentvolumeclaim": "PersistentVolumeClaim"}


@dataclass(frozen=True)
class Missing:
    """An object that a pod refers to and that does not exist.

    Attributes:
        kind: `Secret`, `ConfigMap` or `PersistentVolumeClaim`.
        name: Its name.
        key: Set when the object exists, but has no such key.
    """

    kind: str
    name: str
    key: str | None = None


def condition(obj: KubeObject, kind: str) -> KubeObject:
    """Return an object's condition of a type; empty if it has none."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((item for item in conditions if item.get("type") == kind), {})


def holds(obj: KubeObject, kind: str) -> bool:
    """Return whether an object's condition of a type is True."""
    return bool(condition(obj, kind).get("status") == "True")


def is_terminal(pod: KubeObject) -> bool:
    """Return whether a pod has ended for good."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def unschedulable(pod: KubeObject) -> str | None:
    """Return why the scheduler finds no node for a pod; None if it found one or has not tried yet."""
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return str(scheduled.get("message") or "the scheduler found no node")
    return None


def missing_in(message: str) -> Missing | None:
    """Return the object that a message of the kubelet or the scheduler says does not exist."""
    if found := _NOT_FOUND.search(message):
        return Missing(_KINDS[found[1].lower().rstrip("s")], found[2].rpartition("/")[2])
    if found := _NO_KEY.search(message):
        return Missing(found[2], found[3].rpartition("/")[2], found[1])
    return None


def waiting_of(container: Mapping[str, Any]) -> tuple[str, str]:
    """Return why a container waits, and the kubelet's message; both empty if it does not wait."""
    waiting = (container.get("state") or {}).get("waiting") or {}
    return str(waiting.get("reason") or ""), str(waiting.get("message") or "")


def exceeds_quota(message: str) -> bool:
    """Return whether the API server refused an object because of a ResourceQuota."""
    return "exceeded quota" in message
