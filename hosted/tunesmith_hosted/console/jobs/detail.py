"""One job of the service, from its row, its FineTuneJob and what it has left."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from sqlalchemy import select

from tunesmith_backend.interface.errors import BackendError
from tunesmith_backend.interface.protocol import ObjectRef
from tunesmith_hosted.console.jobs.curve import points_of_events
from tunesmith_hosted.console.jobs.left import read_curve, read_metrics, read_worst_rows
from tunesmith_hosted.console.jobs.view import job_view
from tunesmith_hosted.database.tables import Job, JobEvent
from tunesmith_hosted.fine_tuning.actions import find_job
from tunesmith_hosted.fine_tuning.events import FINISHED
from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.http.context import Context

Object = dict[str, Any]

_log = logging.getLogger(__name__)


async def job_detail(context: Context, caller: Caller, id: str, after: int) -> Object:
    """Return what the console shows of a job of the caller's project.

    Args:
        context: The service.
        caller: Who asks.
        id: The job's id.
        after: Only the points of the curve after this step.

    Raises:
        ApiError: There is no such job.
    """
    async with context.sessions() as session:
        job = await find_job(session, caller, id)
    ref = ObjectRef("FineTuneJob", job.object_name, caller.namespace)
    found = await _status(context, job, ref)
    folder = context.backend.folder(ref)
    artifact = (found.get("artifact") or {}).get("uri")
    curve = await _left(read_curve, folder, artifact, after)
    if not curve:
        async with context.sessions() as session:
            query = select(JobEvent.data).where(JobEvent.job_id == job.id, JobEvent.type == "metrics")
            curve = points_of_events((await session.execute(query.order_by(JobEvent.number))).scalars(), after)
    worst = await _left(read_worst_rows, folder, artifact) if job.status in FINISHED else []
    if "metrics" not in found and job.status == "failed":
        found["metrics"] = await asyncio.to_thread(read_metrics, folder)
    view = job_view(
        job.id,
        job.status,
        job.manifest,
        found,
        curve=curve,
        worst=worst,
        model=job.fine_tuned_model,
        error=job.error,
    )
    if job.status == "queued" and job.place_at is None:
        view["reason"], view["message"] = "WaitsForPlace", "Other jobs of the project run; it starts when one has ended"
    return view


async def _status(context: Context, job: Job, ref: ObjectRef) -> Object:
    """Return the newest status of a job's FineTuneJob; what was noted of it where it is gone or cannot be asked."""
    if job.manifest:
        try:
            found = await context.backend.get(ref)
        except BackendError as error:
            _log.debug("%s: %s", job.id, error)
        else:
            return {**job.observed, **(found.get("status") or {})}
    return dict(job.observed)


async def _left(read: Any, *arguments: object) -> list[Object]:  # noqa: ANN401 - a function of `left`
    """Return what a job has left, nothing where its store does not answer: the rest of the page is worth showing."""
    try:
        found: list[Object] = await asyncio.to_thread(read, *arguments)
    except Exception as error:  # of many types: each store has its own
        _log.warning("what a job has left cannot be read: %s", type(error).__name__)
        return []
    return found
