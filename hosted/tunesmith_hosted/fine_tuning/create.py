"""Creates a job."""

from __future__ import annotations

import secrets

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.database.ids import new_id
from tunesmith_hosted.database.outbox import ask_for
from tunesmith_hosted.database.tables import File, Job
from tunesmith_hosted.fine_tuning.events import Event, add_events
from tunesmith_hosted.fine_tuning.method import method_of
from tunesmith_hosted.fine_tuning.names import object_name
from tunesmith_hosted.fine_tuning.requests import CreateJob
from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.http.errors import ApiError, not_found
from tunesmith_hosted.models.starting import find_start
from tunesmith_hosted.tenants.audit import add_audit
from tunesmith_hosted.tenants.quotas import check_gpu_hours


async def create_job(session: AsyncSession, context: Context, caller: Caller, request: CreateJob) -> Job:
    """Add a job to the session. Its files are validated later, by the reconciler.

    Raises:
        ApiError: The request is wrong.
    """
    if request.integrations:
        message = (
            "Integrations are not offered. Read the job's events and its results file, and log them with wandb in "
            "your own process; then leave integrations out"
        )
        raise ApiError(400, message, param="integrations", code="unsupported_value")
    method = method_of(request)
    start = await find_start(session, context.settings, caller, request.model)
    base = start.base
    if base.gpus:
        await check_gpu_hours(session, caller.project_id, context.settings.quotas)
    for param in ("training_file", "validation_file"):
        file_id = getattr(request, param)
        if file_id is not None:
            await _check_file(session, caller, file_id, param)
    id = new_id("ftjob")
    now = context.now()
    job = Job(
        id=id,
        project_id=caller.project_id,
        base=base.name,
        model=request.model,
        start=start.weights,
        suffix=request.suffix,
        seed=secrets.randbelow(2**31) if request.seed is None else request.seed,
        method=method,
        request=request.model_dump(mode="json", exclude_unset=True),
        training_file=request.training_file,
        validation_file=request.validation_file,
        user_metadata=request.metadata or {},
        wanted="run",
        status="validating_files",
        object_name=object_name(id),
        manifest={},
        observed={},
        error={},
        result_files=[],
        created_at=int(now),
    )
    session.add(job)
    await session.flush()
    created = Event(f"Created fine-tuning job: {id}")
    validating = [Event(f"Validating training file: {request.training_file}")]
    if request.validation_file is not None:
        validating[0] = Event(f"{validating[0].message} and validation file: {request.validation_file}")
    await add_events(session, id, [created, *validating], now)
    add_audit(session, caller, "fine_tuning.job.created", id)
    await ask_for(session, "job", id)
    return job


async def _check_file(session: AsyncSession, caller: Caller, file_id: str, param: str) -> None:
    """Raise ApiError if there is no such file for fine-tuning. Another project's file is no file."""
    query = select(File).where(File.id == file_id, File.project_id == caller.project_id, File.deleted_at.is_(None))
    file = (await session.execute(query)).scalar_one_or_none()
    if file is None:
        raise not_found("file", file_id, param=param)
    if file.purpose != "fine-tune":
        message = f"{file_id} has the purpose {file.purpose}; upload it with purpose fine-tune"
        raise ApiError(400, message, param=param, code="invalid_file_purpose")
