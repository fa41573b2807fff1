"""Parses a report: from Kubeflow Trainer's body to the fields of `status.progress`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tunesmith_api.status import trained

Progress = dict[str, Any]
_LONGEST_TEXT = 256
_MOST_METRICS = 200


class ReportError(ValueError):
    """A report violates the protocol; the message says where."""


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None else round(number)


def _number(value: object) -> float | None:
    """Return a finite number, which the protocol sends as text; None for any other value."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) < 1e15 else None


def _text(value: object) -> str | None:
    return str(value)[:_LONGEST_TEXT] or None


# Names of the Hugging Face callback and of our own trainer; other metrics are ignored.
_FIELDS: Mapping[str, tuple[str, Callable[[object], Any]]] = {
    "current_step": ("step", _whole),
    "step": ("step", _whole),
    "total_steps": ("totalSteps", _whole),
    "totalSteps": ("totalSteps", _whole),
    "current_epoch": ("epoch", _number),
    "epoch": ("epoch", _number),
    "loss": ("loss", _number),
    "eval_loss": ("evalLoss", _number),
    "evalLoss": ("evalLoss", _number),
    "bestStep": ("bestStep", _whole),
    "bestEvalLoss": ("bestEvalLoss", _number),
    "stoppedEarly": ("stoppedEarly", _text),
    "adjusted": ("adjusted", _text),
    "tokens_per_second": ("tokensPerSecond", _number),
    "train_tokens_per_second": ("tokensPerSecond", _number),
    "tokensPerSecond": ("tokensPerSecond", _number),
    "eta_seconds": ("etaSeconds", _number),
    "etaSeconds": ("etaSeconds", _number),
    "detail": ("detail", _text),
}


def progress_of(body: object) -> Progress:
    """Return the fields of `status.progress` that a report contains; the others are absent.

    Args:
        body: `{"trainerStatus": {"estimatedRemainingSeconds", "metrics": [{"name", "value"}], ...}}`.

    Raises:
        ReportError: The body is not of this form.
    """
    status = body.get("trainerStatus") if isinstance(body, dict) else None
    if not isinstance(status, dict):
        raise ReportError("trainerStatus is not an object")
    metrics = status.get("metrics")
    metrics = [] if metrics is None else metrics
    if not isinstance(metrics, list) or len(metrics) > _MOST_METRICS:
        raise ReportError(f"trainerStatus.metrics is not a list of at most {_MOST_METRICS}")
    progress: Progress = {}
    if (seconds := _number(status.get("estimatedRemainingSeconds"))) is not None:
        progress["etaSeconds"] = seconds
    for index, metric in enumerate(metrics):
        if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
            raise ReportError(f"trainerStatus.metrics[{index}] has no name")
        field, convert = _FIELDS.get(metric["name"], (None, _text))
        if field is not None and (value := convert(metric.get("value"))) is not None:
            progress[field] = value
    return progress


def merged(before: Progress | None, stage: str | None, report: Progress) -> Progress:
    """Return the progress after a report: fields missing from it are kept within a stage, training's also after it.

    Args:
        before: The progress so far.
        stage: Stage of the reporting pod.
        report: The reported fields.
    """
    kept = dict(before or {})
    if kept.get("stage") != stage:
        kept = trained(kept, stage)
    kept.pop("detail", None)
    return {**kept, **({"stage": stage} if stage else {}), **report}
