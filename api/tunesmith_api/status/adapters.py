"""The adapters of a workspace in its status, and the condition that sums them up.

Ready says whether the model is served. An adapter that fails leaves it as it is: AdaptersReady is then False.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from tunesmith_api.status.conditions import Status, with_condition
from tunesmith_api.status.reasons import OperatorReason

ADAPTERS_READY = "AdaptersReady"
AdapterState = Literal["Loaded", "Pending", "Failed"]

_TOLD = 5
_LONGEST = 512


def adapter_state(name: str, state: AdapterState, message: str = "", digest: str | None = None) -> dict[str, Any]:
    """Return an adapter as the status has it."""
    values = {"name": name, "digest": digest, "state": state, "message": message[:_LONGEST] or None}
    return {key: value for key, value in values.items() if value is not None}


def with_adapters(status: Status, adapters: Iterable[dict[str, Any]]) -> Status:
    """Return the status with the states of all adapters, and the condition."""
    states = sorted(adapters, key=lambda item: str(item["name"]))
    value, reason, message = _summary(states)
    return with_condition({**status, "adapters": states}, ADAPTERS_READY, value, reason, message)


def without_adapters(status: Status) -> Status:
    """Return the status of a workspace that has no adapters."""
    status = {key: value for key, value in status.items() if key != "adapters"}
    if "conditions" in status:
        status["conditions"] = [item for item in status["conditions"] if item["type"] != ADAPTERS_READY]
    return status


def _summary(states: Sequence[dict[str, Any]]) -> tuple[str, str, str]:
    """Return value, reason and message of the condition."""
    for state, value, reason in (
        ("Failed", "False", OperatorReason.ADAPTER_FAILED),
        ("Pending", "Unknown", OperatorReason.ADAPTERS_PENDING),
    ):
        if found := [item for item in states if item["state"] == state]:
            texts = [f"{item['name']}: {item.get('message', state).rstrip('.')}" for item in found[:_TOLD]]
            more = f". And {len(found) - _TOLD} more: see status.adapters" if len(found) > _TOLD else ""
            return value, reason, ". ".join(texts) + more
    return "True", OperatorReason.ADAPTERS_LOADED, f"Adapters that are served: {len(states)}"
