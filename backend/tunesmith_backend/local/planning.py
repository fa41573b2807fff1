"""The plan of a job that runs on this machine, and what was measured of it, in its status."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tunesmith_api.contract import MACHINE
from tunesmith_api.local.files import read_json
from tunesmith_api.planner import Plan, own_machine, parse_machines
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_backend.interface.errors import BackendError
from tunesmith_backend.local.changes import ConfigMaps
from tunesmith_backend.plan.job_plan import plan_job

_CHOSEN = ("processes", "strategy", "microBatchSize", "gradientCheckpointing")
_HUB_SECONDS = 4.0  # a job need not wait for an estimate


def estimated_plan(config: JobConfig, config_maps: ConfigMaps) -> tuple[dict[str, Any], str] | None:
    """Return the plan of a job that is not prepared yet, and how its data is known; None if nothing can be planned.

    Whether the job fits is for the prepare stage to say, which knows the data.
    """
    try:
        table = os.environ.get(MACHINE)
        machines = parse_machines(table) if table else (own_machine(),)
        planned = plan_job(config, config_maps, machines, seconds=_HUB_SECONDS)
    except (BackendError, OSError, ValueError):
        return None
    return (planned.found.to_status(), planned.rows.note) if isinstance(planned.found, Plan) else None


def prepared_plan(work: WorkFolder) -> dict[str, Any] | None:
    """Return the plan that the prepare stage has made, which the job trains with; None if there is none."""
    plan: dict[str, Any] | None = (read_json(work.stage_marker(Stage.PREPARE)) or {}).get("plan")
    return plan


def chooses_otherwise(plan: Mapping[str, Any], estimate: Mapping[str, Any] | None) -> bool:
    """Return whether a plan trains in another way than the estimate before it."""
    return estimate is None or any(plan.get(name) != estimate.get(name) for name in _CHOSEN)


def with_plan(status: Mapping[str, Any], work: WorkFolder, estimate: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a status with the plan and with what was measured of the stages that have ended.

    Args:
        status: The status.
        work: The job's work folder.
        estimate: The plan as long as there is none of the prepare stage.
    """
    result = dict(status)
    if plan := prepared_plan(work) or estimate:
        result["plan"] = dict(plan)
    measured = {stage.value: found for stage in Stage if (found := read_json(work.measured(stage)))}
    if measured:
        result["measured"] = measured
    return result
