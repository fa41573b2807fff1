"""Gates: bounds on the metrics of the tuned model. A model that fails one is not served."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import GateSpec
from tunesmith_api.tasks import METRICS


def check_gates(
    gates: Sequence[GateSpec], metrics: Mapping[str, float | None], served: str | None = None
) -> list[dict[str, Any]]:
    """Check every gate against the metrics.

    Args:
        gates: The gates.
        served: The precision, if the metrics are those of the served model; else they are those of the tuned model.
        metrics: Value of each metric. None, NaN or infinity means that it could not be measured and fails every gate.

    Returns:
        `{metric, min?, max?, served?, value, passed}` of each gate, in order.
    """
    results = []
    for gate in gates:
        value = metrics.get(gate.metric)
        measured = value is not None and math.isfinite(value)
        passed = (
            value is not None
            and measured
            and (gate.min is None or value >= gate.min)
            and (gate.max is None or value <= gate.max)
        )
        of = {} if served is None else {"served": served}
        results.append({**gate.to_api(), **of, "value": value if measured else None, "passed": passed})
    return results


def require_passed(results: Sequence[Mapping[str, Any]]) -> None:
    """Fail if a gate has not passed.

    Raises:
        StageError: With metric, value and bound of every failed gate.
    """
    failed = [_describe(result) for result in results if not result["passed"]]
    if failed:
        is_served = any("served" in result for result in results if not result["passed"])
        remedy = (
            "Export another precision (export.precisions), train longer, or change evaluation.gates; "
            "publish/predictions.jsonl in the work folder has the answers, train/final the weights"
            if is_served
            else "Train longer or on more data, or change evaluation.gates; "
            "publish/evaluation.json in the work folder has the answers, train/final the weights"
        )
        raise StageError(
            Reason.GATE_FAILED, f"{len(failed)} of {len(results)} gates failed: {'; '.join(failed)}", remedy
        )


def _describe(result: Mapping[str, Any]) -> str:
    metric, value = result["metric"], result["value"]
    model = f"served {result['served']}: " if "served" in result else ""
    bounds = [f"{word} {result[key]:g}" for key, word in (("min", "at least"), ("max", "at most")) if key in result]
    if value is None:
        reason = METRICS[metric].when_missing
        return f"{model}{metric} could not be measured ({reason}), the gate needs {' and '.join(bounds)}"
    return f"{model}{metric} is {value:.4g}, the gate needs {' and '.join(bounds)}"
