"""Compares an observed object with the desired one."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tunesmith_operator.engine.reconciler import KubeObject

APPLIED = "tunesmith.dev/applied"
"""Annotation of an applied child: digest of the applied configuration. It shows that a field has to be removed, also
after a restart."""

_SERVER_FIELDS = ("resourceVersion", "generation", "managedFields")


def contains(observed: object, desired: object) -> bool:
    """Return whether an observed value contains everything in the desired one; additional fields do not count.

    Lists are compared item by item. Items of lists of equal length match in order, which the API server preserves; a
    longer observed list contains the desired one if every desired item with a `name`, `type` or `uid` is in it.
    An absent value contains None and the empty values that the server drops.
    """
    if isinstance(desired, dict):
        if observed is None:
            observed = {}
        return isinstance(observed, dict) and all(contains(observed.get(key), value) for key, value in desired.items())
    if isinstance(desired, list):
        return _contains_list(observed if observed is not None else [], desired)
    if desired is None or desired == "":
        return observed is None or observed == desired
    if isinstance(desired, bool) or isinstance(observed, bool):
        return bool(desired is observed or (desired is False and observed is None))
    return bool(observed == desired)


def overlaid(observed: object, desired: object) -> object:
    """Return an observed value overlaid with the desired one: objects are merged, everything else is replaced."""
    if isinstance(observed, dict) and isinstance(desired, dict):
        return {**observed, **{key: overlaid(observed.get(key), value) for key, value in desired.items()}}
    return desired


def digest(value: object) -> str:
    """Return a short digest of a JSON value, the same whatever the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def with_digest(child: KubeObject) -> KubeObject:
    """Return a child with the annotation that has the digest of the applied configuration."""
    metadata = child["metadata"]
    annotations = {**(metadata.get("annotations") or {}), APPLIED: digest(child)}
    return {**child, "metadata": {**metadata, "annotations": annotations}}


def configuration_digest(observed: KubeObject) -> str:
    """Return a digest of an object without its status and the server's own counters."""
    metadata = {key: value for key, value in observed["metadata"].items() if key not in _SERVER_FIELDS}
    rest = {key: value for key, value in observed.items() if key not in ("status", "metadata")}
    return digest([metadata, rest])


def _contains_list(observed: object, desired: list[Any]) -> bool:
    if not isinstance(observed, list) or len(observed) < len(desired):
        return False
    if len(observed) == len(desired) and all(map(contains, observed, desired)):
        return True
    key = next((k for k in ("name", "type", "uid") if all(isinstance(d, dict) and k in d for d in desired)), None)
    if key is None:
        return False
    return all(any(o.get(key) == d[key] and contains(o, d) for o in observed if isinstance(o, dict)) for d in desired)
