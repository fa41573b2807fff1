"""Phases and conditions of both kinds, the same in a cluster and on one machine."""

from tunesmith_api.status.conditions import (
    Phase,
    Status,
    accepted,
    failed,
    held,
    now,
    observed,
    waiting,
    with_condition,
)
from tunesmith_api.status.finetunejob import (
    completed,
    interrupted,
    is_finished,
    queued,
    running,
    suspended,
    trained,
    with_progress,
)
from tunesmith_api.status.inferenceworkspace import (
    HISTORY_LENGTH,
    blocked,
    progressing,
    rolling_out,
    scaled_to_zero,
    serving,
    stopped,
)

__all__ = [
    "HISTORY_LENGTH",
    "Phase",
    "Status",
    "accepted",
    "blocked",
    "completed",
    "failed",
    "held",
    "interrupted",
    "is_finished",
    "now",
    "observed",
    "progressing",
    "queued",
    "rolling_out",
    "running",
    "scaled_to_zero",
    "serving",
    "stopped",
    "suspended",
    "trained",
    "waiting",
    "with_condition",
    "with_progress",
]
