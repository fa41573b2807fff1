"""A job as the console shows it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tunesmith_hosted.console.jobs.gates import gates_of

Object = dict[str, Any]

_PROGRESS = (
    "step",
    "totalSteps",
    "etaSeconds",
    "epoch",
    "loss",
    "evalLoss",
    "bestStep",
    "bestEvalLoss",
    "stoppedEarly",
    "adjusted",
    "tokensPerSecond",
    "detail",
)


def job_view(
    id: str,
    status: str,
    manifest: Object,
    found: Object,
    *,
    curve: Sequence[Object],
    worst: Sequence[Object],
    model: str | None,
    error: Mapping[str, Any] | None = None,
) -> Object:
    """Return what the console shows of a job.

    Args:
        id: Its id.
        status: Its status in the API.
        manifest: Its FineTuneJob, without a status; empty before there is one.
        found: The newest status of the FineTuneJob.
        curve: The points of its curve.
        worst: Its worst predictions.
        model: Name of its fine-tuned model.
        error: Why it has failed: `code` and `message`.
    """
    spec = manifest.get("spec") or {}
    ready: Object = next((item for item in found.get("conditions") or [] if item.get("type") == "Ready"), {})
    progress = found.get("progress") or {}
    reason, message = ready.get("reason"), ready.get("message")
    if error:
        reason, message = reason or error.get("code"), error.get("message") or message
    return {
        "id": id,
        "status": status,
        "phase": found.get("phase"),
        "reason": reason,
        "message": message,
        "stage": progress.get("stage"),
        "progress": {name: progress.get(name) for name in _PROGRESS},
        "curve": list(curve),
        "plan": found.get("plan"),
        "measured": found.get("measured"),
        "resolved": found.get("resolved"),
        "metrics": found.get("metrics"),
        "gates": gates_of(spec, found.get("metrics") or {}),
        "worstRows": list(worst),
        "yaml": as_yaml(manifest) if manifest else None,
        "fineTunedModel": model,
    }


def as_yaml(manifest: Object) -> str:
    """Return a manifest as YAML, in its own order."""
    return yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=120)
