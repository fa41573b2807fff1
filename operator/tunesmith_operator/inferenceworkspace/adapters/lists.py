"""The ConfigMap with the lists of adapters, and the annotation that makes kubelets read it at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tunesmith_api.artifact import digest_of_json
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.inferenceworkspace.adapters.mounts import CLAIM_MOUNT, config_map_name, list_key
from tunesmith_operator.inferenceworkspace.metadata import metadata_of
from tunesmith_operator.inferenceworkspace.model import Adapter, Adapters, Target, claim_of

SYNCED = "tunesmith.dev/adapters"
"""Annotation of a server's pod: the version of its list, and when its kubelet was told.

A change of it makes the kubelet look at the ConfigMap, which it does every one to two minutes by itself."""
_VERSION_LENGTH = 10
_AGAIN_SECONDS = 3


def version_of(adapters: Adapters) -> str:
    """Return the version of a list: a hash of what it says."""
    entries = [_entry(adapter) for adapter in adapters.sent]
    return digest_of_json(entries).removeprefix("sha256:")[:_VERSION_LENGTH]


def config_map(workspace: KubeObject, target: Target, adapters: Adapters, kept: Mapping[str, str]) -> KubeObject:
    """Return the ConfigMap with the list of the wanted revision.

    Args:
        workspace: The InferenceWorkspace.
        target: The base model.
        adapters: Its adapters.
        kept: Lists of other revisions that still run, by key: their servers keep the adapters that they have.
    """
    content = {"version": version_of(adapters), "adapters": [_entry(adapter) for adapter in adapters.sent]}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    metadata = {**metadata_of(workspace), "name": config_map_name(workspace)}
    data = {**kept, list_key(target.revision): text}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _entry(adapter: Adapter) -> dict[str, Any]:
    claim = claim_of(adapter.uri)
    path = f"{CLAIM_MOUNT}/{claim[1]}" if claim else adapter.uri
    values = {"name": adapter.name, "path": path, "digest": adapter.digest, "secret": adapter.secret}
    return {name: value for name, value in values.items() if value is not None}


def synced_value(pod: KubeObject, version: str, now: int, *, is_behind: bool) -> str:
    """Return the annotation that a pod should have, so that its kubelet mounts a version of the list.

    Args:
        pod: The pod.
        version: The version.
        now: Seconds since the epoch.
        is_behind: Whether its server is known to follow another version. A kubelet may learn of a change of a pod
            before it learns of one of a ConfigMap, and is then told again.
    """
    value = str((pod["metadata"].get("annotations") or {}).get(SYNCED) or "")
    told, _, since = value.partition(".")
    if told == version and not (is_behind and now - int(since or 0) >= _AGAIN_SECONDS):
        return value
    return f"{version}.{now}"
