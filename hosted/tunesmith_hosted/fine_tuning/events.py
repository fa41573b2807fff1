"""Events of jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.database.ids import new_id
from tunesmith_hosted.database.tables import Job, JobEvent

FINISHED = frozenset({"succeeded", "failed", "cancelled"})
"""The statuses that a job does not leave."""


@dataclass(frozen=True)
class Event:
    """Something that has happened to a job.

    Attributes:
        message: What, for people.
        level: How bad it is.
        type: `metrics` has numbers of a step in `data`.
        data: Numbers.
    """

    message: str
    level: Literal["info", "warn", "error"] = "info"
    type: Literal["message", "metrics"] = "message"
    data: dict[str, Any] = field(default_factory=dict)


async def add_events(session: AsyncSession, job_id: str, events: list[Event], now: float) -> None:
    """Add events in their order. The transaction holds the job's row, so that their numbers are taken once."""
    newest = (
        await session.execute(select(func.max(JobEvent.number)).where(JobEvent.job_id == job_id))
    ).scalar_one_or_none()
    for number, event in enumerate(events, (newest or 0) + 1):
        session.add(
            JobEvent(
                id=new_id("ftevent"),
                job_id=job_id,
                number=number,
                level=event.level,
                type=event.type,
                message=event.message,
                data=event.data,
                created_at=int(now),
            )
        )


async def newest_events(session: AsyncSession, job_id: str, before: int | None, limit: int) -> list[JobEvent]:
    """Return a job's events, the newest first, those before a number."""
    query = select(JobEvent).where(JobEvent.job_id == job_id)
    if before is not None:
        query = query.where(JobEvent.number < before)
    return list((await session.execute(query.order_by(JobEvent.number.desc()).limit(limit))).scalars())


async def events_after(session: AsyncSession, job_id: str, number: int) -> AsyncIterator[JobEvent]:
    """Yield a job's events after a number, the oldest first."""
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.number > number).order_by(JobEvent.number)
    for event in (await session.execute(query)).scalars():
        yield event


async def is_finished(session: AsyncSession, job_id: str) -> bool:
    """Return whether a job has ended."""
    return (await session.execute(select(Job.status).where(Job.id == job_id))).scalar_one() in FINISHED
