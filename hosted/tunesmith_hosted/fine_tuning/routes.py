"""`/v1/fine_tuning/jobs`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse
from sqlalchemy import exists, select

from tunesmith_hosted.database.tables import Checkpoint, Job, JobEvent, TunedModel
from tunesmith_hosted.fine_tuning import actions
from tunesmith_hosted.fine_tuning.create import create_job
from tunesmith_hosted.fine_tuning.events import newest_events
from tunesmith_hosted.fine_tuning.lists import metadata_filter
from tunesmith_hosted.fine_tuning.requests import CreateJob
from tunesmith_hosted.fine_tuning.stream import stream_events
from tunesmith_hosted.http.caller import Caller, allowed
from tunesmith_hosted.http.context import Context, ContextOf
from tunesmith_hosted.http.errors import not_found
from tunesmith_hosted.http.pages import check_limit, find_rows, page
from tunesmith_hosted.wire.fine_tuning import checkpoint_object, event_object, job_object

router = APIRouter(prefix="/v1/fine_tuning", tags=["fine-tuning"])

CallerOf = Annotated[Caller, Depends(allowed("fine_tuning"))]


@router.post("/jobs")
async def create(request: CreateJob, caller: CallerOf, context: ContextOf) -> dict[str, Any]:
    """Create a job."""
    async with context.sessions.begin() as session:
        job = await create_job(session, context, caller, request)
    context.wake_reconciler()
    return job_object(job, caller.organization_id)


@router.get("/jobs")
async def list_jobs(
    request: Request, caller: CallerOf, context: ContextOf, limit: int = 20, after: str | None = None
) -> dict[str, Any]:
    """List the project's jobs, the newest first; `metadata[KEY]=VALUE` shows those with this metadata only."""
    check_limit(limit, 100)
    async with context.sessions() as session:
        rows = await find_rows(
            session,
            Job,
            scope=[Job.project_id == caller.project_id],
            where=metadata_filter(request.query_params.multi_items()),
            limit=limit,
            after=after,
        )
    return page(rows, limit, lambda job: job_object(job, caller.organization_id))


@router.get("/jobs/{fine_tuning_job_id}")
async def get_job(fine_tuning_job_id: str, caller: CallerOf, context: ContextOf) -> dict[str, Any]:
    """Return a job."""
    async with context.sessions() as session:
        job = await actions.find_job(session, caller, fine_tuning_job_id)
    return job_object(job, caller.organization_id)


@router.post("/jobs/{fine_tuning_job_id}/cancel")
async def cancel(fine_tuning_job_id: str, caller: CallerOf, context: ContextOf) -> dict[str, Any]:
    """Cancel a job."""
    return await _change(actions.cancel, fine_tuning_job_id, caller, context)


@router.post("/jobs/{fine_tuning_job_id}/pause")
async def pause(fine_tuning_job_id: str, caller: CallerOf, context: ContextOf) -> dict[str, Any]:
    """Pause a job."""
    return await _change(actions.pause, fine_tuning_job_id, caller, context)


@router.post("/jobs/{fine_tuning_job_id}/resume")
async def resume(fine_tuning_job_id: str, caller: CallerOf, context: ContextOf) -> dict[str, Any]:
    """Resume a job that is paused."""
    return await _change(actions.resume, fine_tuning_job_id, caller, context)


async def _change(change: actions.Change, id: str, caller: Caller, context: Context) -> dict[str, Any]:
    """Change what is wanted of a job, and return it."""
    async with context.sessions.begin() as session:
        job = await change(session, caller, id, context.now())
    context.wake_reconciler()
    return job_object(job, caller.organization_id)


@router.get("/jobs/{fine_tuning_job_id}/events", response_model=None)
async def list_events(
    fine_tuning_job_id: str,
    caller: CallerOf,
    context: ContextOf,
    limit: int = 20,
    after: str | None = None,
    stream: bool = False,
) -> dict[str, Any] | Response:
    """List a job's events, the newest first; with `stream` send all from the oldest on, as they come."""
    check_limit(limit, 100)
    async with context.sessions() as session:
        job = await actions.find_job(session, caller, fine_tuning_job_id)
        if stream:
            return StreamingResponse(stream_events(context, job.id), media_type="text/event-stream")
        before = None
        if after is not None:
            query = select(JobEvent.number).where(JobEvent.job_id == job.id, JobEvent.id == after)
            before = (await session.execute(query)).scalar_one_or_none()
            if before is None:
                raise not_found("event", after, param="after")
        events = await newest_events(session, job.id, before, limit + 1)
    return page(events, limit, event_object)


@router.get("/jobs/{fine_tuning_job_id}/checkpoints")
async def list_checkpoints(
    fine_tuning_job_id: str, caller: CallerOf, context: ContextOf, limit: int = 10, after: str | None = None
) -> dict[str, Any]:
    """List a job's checkpoints, the last step first."""
    check_limit(limit, 100)
    async with context.sessions() as session:
        job = await actions.find_job(session, caller, fine_tuning_job_id)
        deleted = exists().where(TunedModel.id == Checkpoint.model, TunedModel.deleted_at.is_not(None))
        query = select(Checkpoint).where(Checkpoint.job_id == job.id, ~deleted)
        if after is not None:
            cursor = select(Checkpoint.step).where(Checkpoint.job_id == job.id, Checkpoint.id == after)
            step = (await session.execute(cursor)).scalar_one_or_none()
            if step is None:
                raise not_found("checkpoint", after, param="after")
            query = query.where(Checkpoint.step < step)
        rows = list((await session.execute(query.order_by(Checkpoint.step.desc()).limit(limit + 1))).scalars())
    return page(rows, limit, checkpoint_object)
