"""The gates of a job, with what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def gates_of(spec: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the gates of a FineTuneJob's spec.

    Args:
        spec: The spec.
        metrics: `metrics` of its status: `before`, `after`, and `served` by precision; each may be missing.

    Returns:
        `{metric, min, max, bound, before, after, served, servedBy, passed}` of each gate. `served` is the worst value
        of all precisions. `passed` is None as long as nothing was measured.
    """
    before, after = metrics.get("before") or {}, metrics.get("after") or {}
    served: Mapping[str, Any] = metrics.get("served") or {}
    found = []
    for gate in (spec.get("evaluation") or {}).get("gates") or ():
        name, least, most = gate["metric"], gate.get("min"), gate.get("max")
        by = {precision: values[name] for precision, values in served.items() if values.get(name) is not None}
        measured = [value for value in (after.get(name), *by.values()) if value is not None]
        found.append(
            {
                "metric": name,
                "min": least,
                "max": most,
                "bound": _bound(least, most),
                "before": before.get(name),
                "after": after.get(name),
                "served": _worst(list(by.values()), least),
                "servedBy": by,
                "passed": all(_passes(value, least, most) for value in measured) if measured else None,
            }
        )
    return found


def _bound(least: float | None, most: float | None) -> str:
    words = [f"{word} {value:g}" for word, value in (("at least", least), ("at most", most)) if value is not None]
    return " and ".join(words)


def _worst(values: Sequence[float], least: float | None) -> float | None:
    if not values:
        return None
    return min(values) if least is not None else max(values)


def _passes(value: float, least: float | None, most: float | None) -> bool:
    return math.isfinite(value) and (least is None or value >= least) and (most is None or value <= most)
