"""The stage's result or failure, as JSON in the container's termination message."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith_api.contract import TERMINATION_LOG, TERMINATION_MESSAGE_BYTES, outcome_of
from tunesmith_api.failures import StageError

log = logging.getLogger(__name__)

_SHORT_REASON = 60
_IN_MANIFEST = ("gates", "parity")


def write_result(result: Mapping[str, Any]) -> None:
    """Write that the stage is complete, with its result for the job's status."""
    _write({**outcome_of(), "result": dict(result)})


def write_failure(error: StageError) -> None:
    """Write why the stage failed."""
    _write({**outcome_of(error), "result": {}})


def encode(message: Mapping[str, Any], limit: int = TERMINATION_MESSAGE_BYTES) -> bytes:
    """Return a termination message as JSON of at most `limit` bytes.

    If it is too long, parts are left out, the least important first: the reasons of resolved and planned values, then
    the resolved values, then what the artifact's manifest also has, then all but the artifact, then the whole result,
    then the ends of the texts. NaN and infinity, which JSON does not have, become null.

    Args:
        message: `reason`, `message`, `remedy` and `result`.
        limit: The limit in bytes, at least 256.
    """
    message = _finite(dict(message))
    for shortened in (
        message,
        _with_short_reasons(message),
        _without_planned_reasons(_with_short_reasons(message)),
        _without_planned_reasons(_without(message, "resolved")),
        _without_planned_reasons(_without(message, "resolved", *_IN_MANIFEST)),
        _without(message, "resolved", "plan", "measured", "metrics", *_IN_MANIFEST),
        {**message, "result": {}},
    ):
        if len(data := _json(shortened)) <= limit:
            return data
    texts = {"message": str(message["message"]), "remedy": str(message["remedy"])}
    rest = {**message, "result": {}}
    # Terminates: a character takes at most six bytes in JSON (an escape), so each round cuts at least one.
    while len(data := _json({**rest, **texts})) > limit:
        excess = len(data) - limit
        name = max(texts, key=lambda key: len(texts[key]))
        texts[name] = texts[name][: max(0, len(texts[name]) - max(1, excess // 6) - 1)] + "…"
    return data


def _write(message: Mapping[str, Any]) -> None:
    path = os.environ.get(TERMINATION_LOG)
    if not path:
        return
    try:
        # Not replaced atomically: the kubelet has mounted this file itself.
        Path(path).write_bytes(encode(message))
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _with_short_reasons(message: Mapping[str, Any]) -> dict[str, Any]:
    resolved = message["result"].get("resolved")
    if not isinstance(resolved, dict):
        return dict(message)
    short = {
        name: {**entry, "reason": str(entry["reason"])[:_SHORT_REASON]} if isinstance(entry, dict) else entry
        for name, entry in resolved.items()
    }
    return {**message, "result": {**message["result"], "resolved": short}}


def _without_planned_reasons(message: Mapping[str, Any]) -> dict[str, Any]:
    plan = message["result"].get("plan")
    if not isinstance(plan, dict):
        return dict(message)
    short = {name: value for name, value in plan.items() if name != "reasons"}
    return {**message, "result": {**message["result"], "plan": short}}


def _without(message: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {**message, "result": {key: value for key, value in message["result"].items() if key not in names}}


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
