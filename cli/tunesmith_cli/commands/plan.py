"""`tunesmith plan`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tunesmith_api.failures import EXIT_CODES, Reason
from tunesmith_api.manifests import LoadedFineTuneJob
from tunesmith_api.planner import MACHINES, OWN_MACHINE, DoesNotFit, Machine, Plan, PriceRow, own_machine, quantity
from tunesmith_backend.plan.job_plan import PlannedJob, plan_job
from tunesmith_backend.plan.machines import machines_for, read_machines
from tunesmith_backend.plan.rows import ConfigMaps
from tunesmith_cli.commands.manifests import load_valid
from tunesmith_cli.commands.rows import job_config
from tunesmith_cli.terminal.console import CliError, Exit
from tunesmith_cli.terminal.plan import print_plan

Output = Literal["table", "json"]


def plan_manifests(
    paths: Sequence[Path], *, machines: Path | None, on: str | None, output: Output, show_all: bool
) -> int:
    """Print what the jobs in manifests need and what they fit on, and return the exit code.

    Args:
        paths: Manifests, or folders of them.
        machines: File with a table of machines; usual AKS sizes by default.
        on: Machine that the jobs are planned for, `this` for this one; by default what each job asks for.
        output: How to print it.
        show_all: Also list what does not fit.

    Raises:
        CliError: There is no job.
    """
    manifests = load_valid(paths)
    if manifests is None:
        return Exit.INVALID
    if not manifests.fine_tune_jobs:
        raise CliError("no FineTuneJob in " + ", ".join(map(str, paths)))
    table = read_machines(machines) if machines is not None else MACHINES
    others = table if machines is not None else ()
    planned = [_planned(job, manifests.config_maps, table, on, others) for job in manifests.fine_tune_jobs]
    compared = (own_machine(), *table)
    if output == "json":
        items = [_as_json(job, job.prices(compared), _ways(job, named=machines is not None)) for job in planned]
        print(json.dumps({"items": items}, indent=2, ensure_ascii=False))
    else:
        for job in planned:
            print_plan(job, job.prices(compared), _ways(job, named=machines is not None), show_all=show_all)
    fits = not any(isinstance(job.found, DoesNotFit) for job in planned)
    return Exit.OK if fits else EXIT_CODES[Reason.DOES_NOT_FIT]


def _planned(
    job: LoadedFineTuneJob, config_maps: ConfigMaps, table: Sequence[Machine], on: str | None, others: Sequence[Machine]
) -> PlannedJob:
    machines = machines_for(job.spec.resources, table, on)
    nodes = 1 if machines[0].name == OWN_MACHINE else job.spec.resources.nodes
    return plan_job(job_config(job), config_maps, machines, nodes, others)


def _ways(job: PlannedJob, *, named: bool) -> list[str]:
    """Return what would fit instead, as the YAML to write.

    Args:
        job: The job.
        named: Whether there is a table whose machines a job can name; else an AKS size is looked for.
    """
    if not isinstance(job.found, DoesNotFit):
        return []
    other = None if named else job.on(MACHINES)
    if not isinstance(other, Plan):
        return list(job.found.nearest)
    machine, need = other.machine, other.stages["train"]
    gpus = f", gpusPerNode: {machine.gpus}" if machine.gpus else ""
    size = f"{quantity(need.gpu_memory)} of each GPU" if need.gpu_memory else f"{quantity(need.memory)} of memory"
    return [f"resources: {{instanceType: {machine.name}{gpus}}} ({other.setup.strategy}: {size})", *job.found.nearest]


def _as_json(job: PlannedJob, prices: Sequence[PriceRow], ways: list[str]) -> dict[str, Any]:
    """Return a job's plan, and what fits where."""
    found = job.found
    refused = isinstance(found, DoesNotFit)
    plan = found.plan if isinstance(found, DoesNotFit) else found
    result: dict[str, Any] = {
        "name": job.config.name,
        "namespace": job.config.namespace,
        "fits": not refused,
        "plan": plan.to_status() if plan else None,
        "data": {"rows": job.rows.rows, "longest": job.rows.longest, "mean": job.rows.mean, "note": job.rows.note},
    }
    if isinstance(found, DoesNotFit):
        result |= {"message": found.message, "nearest": ways}
    result["prices"] = [
        {
            "machine": row.machine,
            "method": row.method,
            "fits": row.fits,
            "needBytes": row.need,
            "availableBytes": row.available,
            "plan": {name: value for name, value in row.plan.to_status().items() if name not in ("model", "reasons")},
        }
        for row in prices
    ]
    return result
