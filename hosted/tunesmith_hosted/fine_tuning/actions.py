"""Cancelling, pausing and resuming jobs: what is wanted is written down, and the reconciler makes it so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.database.outbox import ask_for
from tunesmith_hosted.database.tables import Job
from tunesmith_hosted.fine_tuning.events import FINISHED, Event, add_events
from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.http.errors import ApiError, not_found
from tunesmith_hosted.tenants.audit import add_audit

Change = Callable[[AsyncSession, Caller, str, float], Awaitable[Job]]
"""Changes what is wanted of a job, by its id, at a time."""


async def find_job(session: AsyncSession, caller: Caller, job_id: str, *, lock: bool = False) -> Job:
    """Return a job of the caller's project.

    Raises:
        ApiError: There is none.
    """
    query = select(Job).where(Job.id == job_id, Job.project_id == caller.project_id)
    found = (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()
    if found is None:
        raise not_found("fine-tuning job", job_id, param="fine_tuning_job_id")
    return found


async def cancel(session: AsyncSession, caller: Caller, job_id: str, now: float) -> Job:
    """Cancel a job: it ends now, and what it has written is removed. Cancelling it again changes nothing.

    Raises:
        ApiError: There is none, or it has ended otherwise.
    """
    job = await find_job(session, caller, job_id, lock=True)
    if job.status == "cancelled":
        return job
    _require_unfinished(job, "cancelled")
    # Its place is free only when it is gone, or more jobs would run than may.
    job.wanted, job.status, job.finished_at, job.estimated_finish = "cancel", "cancelled", int(now), None
    await _changed(session, job, [Event("Fine-tuning job cancelled")], now)
    add_audit(session, caller, "fine_tuning.job.cancelled", job_id)
    return job


async def pause(session: AsyncSession, caller: Caller, job_id: str, now: float) -> Job:
    """Pause a job: it saves a checkpoint and gives its place back. Pausing it again changes nothing.

    Raises:
        ApiError: There is none, or it has ended.
    """
    job = await find_job(session, caller, job_id, lock=True)
    if job.wanted == "pause":
        return job
    _require_unfinished(job, "paused")
    job.wanted, job.estimated_finish = "pause", None
    # A job without a place runs nowhere, so nothing has to be waited for.
    job.status = "paused" if job.place_at is None else "pausing"
    await _changed(session, job, [Event("Pausing fine-tuning job")], now)
    add_audit(session, caller, "fine_tuning.job.paused", job_id)
    return job


async def resume(session: AsyncSession, caller: Caller, job_id: str, now: float) -> Job:
    """Let a paused job go on as soon as there is a place for it. Resuming one that runs changes nothing.

    Raises:
        ApiError: There is none, or it has ended.
    """
    job = await find_job(session, caller, job_id, lock=True)
    if job.wanted == "run" and job.status not in FINISHED:
        return job
    _require_unfinished(job, "resumed")
    job.wanted = "run"
    job.status = "queued" if job.manifest else "validating_files"
    await _changed(session, job, [Event("Resuming fine-tuning job")], now)
    add_audit(session, caller, "fine_tuning.job.resumed", job_id)
    return job


def _require_unfinished(job: Job, what: str) -> None:
    if job.status in FINISHED:
        message = f"Job {job.id} has {job.status.replace('cancelled', 'been cancelled')}, so it cannot be {what}"
        raise ApiError(400, message, param="fine_tuning_job_id", code="invalid_job_state")


async def _changed(session: AsyncSession, job: Job, events: list[Event], now: float) -> None:
    await add_events(session, job.id, events, now)
    await ask_for(session, "job", job.id)
