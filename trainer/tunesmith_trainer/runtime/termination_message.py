"""What a stage says at its end to whoever started its container: a JSON object in the termination log."""

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


def tell_result(result: Mapping[str, Any]) -> None:
    """Tell that a stage is complete, and what it leaves for the job's status."""
    _write({**outcome_of(), "result": dict(result)})


def tell_failure(error: StageError) -> None:
    """Tell why a stage cannot go on."""
    _write({**outcome_of(error), "result": {}})


def encode(words: Mapping[str, Any], longest: int = TERMINATION_MESSAGE_BYTES) -> bytes:
    """Return the words as JSON of at most `longest` bytes.

    What is too long is left out, the least important first: why each value was chosen, then these values themselves,
    then the ends of the texts. Numbers that are not finite, which JSON does not have, become null.

    Args:
        words: `reason`, `message`, `remedy` and `result`.
        longest: The limit in bytes, at least 256.
    """
    words = _finite(dict(words))
    for shortened in (words, _with_short_reasons(words), _without_values(words), {**words, "result": {}}):
        if len(data := _json(shortened)) <= longest:
            return data
    texts = {"message": str(words["message"]), "remedy": str(words["remedy"])}
    rest = {**words, "result": {}}
    # A character takes at most six bytes as an escape in JSON, so that this ends.
    while len(data := _json({**rest, **texts})) > longest:
        excess = len(data) - longest
        name = max(texts, key=lambda key: len(texts[key]))
        texts[name] = texts[name][: max(0, len(texts[name]) - max(1, excess // 6) - 1)] + "…"
    return data


def _write(words: Mapping[str, Any]) -> None:
    path = os.environ.get(TERMINATION_LOG)
    if not path:
        return
    try:
        # Not replaced atomically: the kubelet has mounted this very file.
        Path(path).write_bytes(encode(words))
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _with_short_reasons(words: Mapping[str, Any]) -> dict[str, Any]:
    resolved = words["result"].get("resolved")
    if not isinstance(resolved, dict):
        return dict(words)
    short = {
        name: {**entry, "reason": str(entry["reason"])[:_SHORT_REASON]} if isinstance(entry, dict) else entry
        for name, entry in resolved.items()
    }
    return {**words, "result": {**words["result"], "resolved": short}}


def _without_values(words: Mapping[str, Any]) -> dict[str, Any]:
    return {**words, "result": {key: value for key, value in words["result"].items() if key != "resolved"}}


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
