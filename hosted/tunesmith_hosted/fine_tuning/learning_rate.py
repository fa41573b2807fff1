"""The learning rate that a multiplier multiplies."""

from __future__ import annotations

from typing import Any

from tunesmith_api.methods import DPO_RATE_SHARE, METHODS, SCRATCH_LEARNING_RATE


def default_learning_rate(spec: dict[str, Any]) -> float:
    """Return the peak learning rate of a job's spec: its own, or else the product's default."""
    given = spec.get("training", {}).get("learningRate")
    if given is not None:
        return float(given)
    is_scratch = "scratch" in spec["model"]
    rate = SCRATCH_LEARNING_RATE if is_scratch else METHODS[spec["method"]].default_learning_rate
    return rate * (DPO_RATE_SHARE if spec.get("objective") == "dpo" else 1)
