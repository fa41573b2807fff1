"""A plan in one line, and beside it what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

UNKNOWN = "-"
"""Stands for a value that is not known."""

_STAGES = ("prepare", "train", "publish")


def summary(plan: Mapping[str, Any]) -> str:
    """Return a plan as it stands in a status as one line: memory, time, and what was chosen."""
    train = (plan.get("stages") or {}).get("train") or {}
    gpu = f"{train['gpuMemory']} of each GPU and " if train.get("gpuMemory") else ""
    parts = [f"{people(plan['model']['parameters'])} parameters"]
    if train.get("memory"):
        parts.append(f"training takes {gpu}{train['memory']} of memory")
    if plan.get("hours") is not None:
        parts.append(f"about {duration(plan['hours'])}")
    passes = plan.get("gradientAccumulationSteps")
    parts.append(f"{plan['strategy']}, {plan['microBatchSize']} rows x {passes} a step")
    if plan.get("gradientCheckpointing"):
        parts.append("gradient checkpointing")
    return ", ".join(parts)


def comparison(plan: Mapping[str, Any], measured: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each stage with what was planned and what was measured, as they stand in a status.

    Args:
        plan: The plan.
        measured: What was measured.
    """
    needs = plan.get("stages") or {}
    for stage in _STAGES:
        found, need = measured.get(stage) or {}, needs.get(stage) or {}
        if not found:
            continue
        planned = f"; planned {_amounts(need)}" if need else ""
        step = f" ({found['secondsPerStep']:.3g} s a step)" if found.get("secondsPerStep") else ""
        yield f"  {stage}: took {_amounts(found)}{step}{planned}"


def _amounts(values: Mapping[str, Any]) -> str:
    parts = [f"{values['memory']} of memory"] if values.get("memory") else []
    if values.get("gpuMemory"):
        parts.append(f"{values['gpuMemory']} of each GPU")
    if values.get("seconds") is not None:
        parts.append(duration(float(values["seconds"]) / 3600))
    return ", ".join(parts) or UNKNOWN


def duration(hours: float | None) -> str:
    """Return a duration as people say it; `-` if it is not known."""
    if hours is None:
        return UNKNOWN
    seconds = hours * 3600
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def price(cost: float | None) -> str:
    """Return a price; `-` if it is not known."""
    return UNKNOWN if cost is None else f"{cost:,.2f}"


def people(count: int) -> str:
    """Return a number of parameters as people say it: `3.8B`."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)
