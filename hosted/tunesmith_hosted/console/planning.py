"""What a job would need, before it is created: the same plan as that of `tunesmith plan`."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from tunesmith_api.objects import FineTuneJob
from tunesmith_api.planner import MACHINES, DoesNotFit, Machine, Plan, own_machine, parse_machines
from tunesmith_api.spec import JobConfig
from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_backend.local.inputs import local_spec
from tunesmith_backend.plan.job_plan import PlannedJob, plan_job
from tunesmith_backend.plan.machines import machines_for
from tunesmith_hosted.config.settings import Settings
from tunesmith_hosted.console.jobs.view import as_yaml
from tunesmith_hosted.database.tables import File, Job
from tunesmith_hosted.files.rows import find_file
from tunesmith_hosted.files.store import StoreError, open_local, store_of
from tunesmith_hosted.files.threads import in_thread
from tunesmith_hosted.fine_tuning.manifest import job_manifest
from tunesmith_hosted.fine_tuning.method import method_of
from tunesmith_hosted.fine_tuning.requests import CreateJob
from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.http.errors import ApiError
from tunesmith_hosted.models.starting import find_start

Object = dict[str, Any]

CURRENCY = "USD"

_NEW = "new-job"
_HEAD_BYTES = 8 << 20  # what the planner reads of a file
_HUB_SECONDS = 10.0


async def plan_request(context: Context, caller: Caller, request: CreateJob) -> Object:
    """Return what the job of a request would need and what it fits on. Nothing is created.

    Raises:
        ApiError: The request is wrong, or the base model cannot be read.
    """
    method = method_of(request)
    files: dict[str, File] = {}
    async with context.sessions() as session:
        start = await find_start(session, context.settings, caller, request.model)
        for name in ("training", "validation"):
            param = f"{name}_file"
            if (id := getattr(request, param)) is None:
                continue
            files[name] = await find_file(session, caller.project_id, id, context.now(), param=param)
            if files[name].purpose != "fine-tune":
                message = f"{id} has the purpose {files[name].purpose}; upload it with purpose fine-tune"
                raise ApiError(400, message, param=param, code="invalid_file_purpose")
    rows = await in_thread(_count, context, files["training"])
    job = Job(
        object_name=_NEW,
        project_id=caller.project_id,
        start=start.weights,
        method=method,
        seed=request.seed if request.seed is not None else 0,
    )
    try:
        sources = {name: {"uri": open_local(context, file), "sha256": file.sha256} for name, file in files.items()}
    except StoreError as error:
        raise ApiError(400, str(error), code="invalid_settings") from None
    manifest, chosen = job_manifest(job, start.base, caller.namespace, sources, rows, None)
    with tempfile.TemporaryDirectory(prefix="tunesmith-plan-") as folder:
        await in_thread(_heads, context, files, Path(folder))
        planned, machines = await asyncio.to_thread(_plan, context.settings, manifest, files, Path(folder))
    return {**shown(planned, machines), "rows": rows, "hyperparameters": chosen, "yaml": as_yaml(manifest)}


def _count(context: Context, file: File) -> int:
    """Return the rows of a file; of a large one estimated, as the planner does."""
    with store_of(context).reader(file.path) as content:
        head = content.read(_HEAD_BYTES)
    lines = sum(1 for line in head.split(b"\n") if line.strip())
    return lines if len(head) >= file.bytes else max(1, round(lines * file.bytes / len(head)))


def _heads(context: Context, files: dict[str, File], folder: Path) -> None:
    """Write the beginnings of files, each as long as its whole: what is missing takes no room on the disk."""
    for name, file in files.items():
        with store_of(context).reader(file.path) as content, (folder / f"{name}.jsonl").open("wb") as target:
            _write_head(content, target, file.bytes)


def _write_head(content: BinaryIO, target: BinaryIO, size: int) -> None:
    target.write(content.read(_HEAD_BYTES))
    target.truncate(size)


def _plan(
    settings: Settings, manifest: Object, files: dict[str, File], folder: Path
) -> tuple[PlannedJob, Sequence[Machine]]:
    spec = {**manifest["spec"], "dataset": dict(manifest["spec"]["dataset"])}
    spec["dataset"]["sources"] = [{"uri": str(folder / "training.jsonl")}]
    if "validation" in files:
        spec["dataset"]["validation"] = {"sources": [{"uri": str(folder / "validation.jsonl")}]}
    try:
        job = FineTuneJob.model_validate({**manifest, "spec": spec})
        config = JobConfig(name=_NEW, namespace="default", spec=local_spec(job.spec.training_spec(), Path.cwd()))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ApiError(400, f"{where}: {first['msg'].removeprefix('Value error, ')}", code="invalid_settings") from None
    table = _machines(settings)
    try:
        chosen = (own_machine(),) if settings.backend == "local" else machines_for(job.spec.resources, table, None)
        planned = plan_job(config, {}, chosen, job.spec.resources.nodes, seconds=_HUB_SECONDS)
    except BackendError as error:
        status = 503 if error.kind is ErrorKind.RETRY else 400
        raise ApiError(status, f"The job cannot be planned: {error}", code="cannot_plan") from None
    return planned, table


def _machines(settings: Settings) -> tuple[Machine, ...]:
    """Return the machines that are compared."""
    if settings.backend == "local":
        return (own_machine(),)
    return parse_machines(list(settings.machines)) if settings.machines else MACHINES


def shown(planned: PlannedJob, machines: Sequence[Machine]) -> Object:
    """Return a plan as the console shows it."""
    found = planned.found
    plan = found.plan if isinstance(found, DoesNotFit) else found
    fits = [
        {
            "device": row.machine,
            "method": row.method,
            "strategy": row.strategy,
            "memory": row.need,
            "available": row.available,
            "fits": row.fits,
            "seconds": None if row.hours is None else round(row.hours * 3600),
            "cost": None if row.cost is None else round(row.cost, 2),
            "isChosen": isinstance(found, Plan) and _is(found, row.machine, row.strategy, row.method, planned),
        }
        for row in planned.prices(machines)
    ]
    hours = plan.hours if plan is not None else None
    return {
        "fits": fits,
        "isPossible": isinstance(found, Plan),
        "message": found.message if isinstance(found, DoesNotFit) else None,
        "remedies": list(found.nearest) if isinstance(found, DoesNotFit) else [],
        "device": plan.machine.name if plan is not None else None,
        "seconds": None if hours is None else round(hours * 3600),
        "cost": None if plan is None or plan.cost is None else round(plan.cost, 2),
        "currency": CURRENCY,
        "memory": None if plan is None else _memory(plan),
        "plan": None if plan is None else plan.to_status(),
        "data": {"rows": planned.rows.rows, "tokens": planned.rows.mean, "note": planned.rows.note},
    }


def _is(plan: Plan, machine: str, strategy: str, method: str, planned: PlannedJob) -> bool:
    return (plan.machine.name, plan.setup.strategy, planned.config.spec.method) == (machine, strategy, method)


def _memory(plan: Plan) -> int:
    """Return the bytes that training takes of each GPU, or of the machine where it has none."""
    train = plan.stages["train"]
    return train.memory if train.gpu_memory is None else train.gpu_memory
