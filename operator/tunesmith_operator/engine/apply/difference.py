"""Whether what is there already is what is wanted."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tunesmith_operator.engine.reconciler import Object

APPLIED = "tunesmith.dev/applied"
"""Annotation of a child that is kept as given: digest of what was applied, so that a field that is no longer wanted is
noticed, also after a restart."""

_SERVER_FIELDS = ("resourceVersion", "generation", "managedFields")


def contains(observed: object, desired: object) -> bool:
    """Return whether an observed value holds everything that is desired; what it holds beyond that does not count.

    Lists are compared item by item. Items of equal length lists match in order, as the API server keeps it; an
    observed list that is longer holds the desired one when every desired item with a `name` or `type` is in it.
    None and empty values that the server drops are contained in nothing being there.
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
    """Return an observed value with all that is desired in it: objects are merged, all else is replaced."""
    if isinstance(observed, dict) and isinstance(desired, dict):
        return {**observed, **{key: overlaid(observed.get(key), value) for key, value in desired.items()}}
    return desired


def digest(value: object) -> str:
    """Return a short digest of a JSON value, the same whatever the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def with_digest(child: Object) -> Object:
    """Return a child with the annotation that says what was applied."""
    metadata = child["metadata"]
    annotations = {**(metadata.get("annotations") or {}), APPLIED: digest(child)}
    return {**child, "metadata": {**metadata, "annotations": annotations}}


def configuration_digest(observed: Object) -> str:
    """Return a digest of an object without its status and what the server counts up."""
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
