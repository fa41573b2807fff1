"""The plan that the prepare stage has recorded."""

from __future__ import annotations

from typing import Any

from tunesmith_api.local.files import read_json
from tunesmith_api.work_folder import Stage, WorkFolder


def planned(work: WorkFolder) -> dict[str, Any] | None:
    """Return the plan that a job trains with, as it stands in a status's `plan`; None if nothing was planned."""
    plan: dict[str, Any] | None = (read_json(work.stage_marker(Stage.PREPARE)) or {}).get("plan")
    return plan
