"""What the stages took, for `status.measured`."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from tunesmith_api.objects.plan import Measured
from tunesmith_api.work_folder import Stage
from tunesmith_operator.finetunejob.containers import without_nulls

Status = dict[str, Any]


def with_measured(status: Status, stage: Stage, result: dict[str, Any]) -> Status:
    """Return the status with what a complete stage took, from `measured` in its result; unchanged if that is not valid.

    Args:
        status: The status before.
        stage: The stage.
        result: Its result.
    """
    measured = without_nulls(result.get("measured"))
    if not measured:
        return status
    before = status.get("measured") or {}
    try:
        found = Measured.model_validate({**before, stage.value: measured})
    except ValidationError:
        return status
    return {**status, "measured": found.to_api()}
