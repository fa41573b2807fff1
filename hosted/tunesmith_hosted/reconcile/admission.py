"""Gives places to jobs that wait: as many to a project as its quota says, the oldest first, fair over projects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.database.outbox import ask_for
from tunesmith_hosted.database.tables import Job
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.tenants.quotas import has_gpu_hours, jobs_at_once

_LOCK = 0x7E57  # any number that no other lock of the database has


def choose(
    waiting: Sequence[tuple[str, str]],
    running: Mapping[str, int],
    limits: Mapping[str, int | None],
    most: int | None = None,
) -> list[str]:
    """Return the ids of the jobs that get a place, in this order.

    Of the projects that may run more, the one with the fewest jobs is next, and of its jobs the oldest; where several
    have as few, the one whose job has waited longest.

    Args:
        waiting: `(id, project)` of the jobs that wait, the oldest first.
        running: How many places each project has taken.
        limits: How many it may take, None without limit.
        most: How many places there are in all, None without limit.
    """
    taken = Counter(running)
    left = list(waiting)
    chosen = []
    while most is None or taken.total() < most:
        free = [
            (taken[project], position)
            for position, (_, project) in enumerate(left)
            if (limit := limits[project]) is None or taken[project] < limit
        ]
        if not free:
            break
        id, project = left.pop(min(free)[1])
        taken[project] += 1
        chosen.append(id)
    return chosen


async def admit(context: Context) -> list[str]:
    """Give places to the jobs that are next, let the reconciler look at them, and return their ids."""
    async with context.sessions() as session:
        # Most of the time nobody waits, and then nothing is locked.
        if not await _waiting(session):
            return []
    async with context.sessions.begin() as session:
        if session.get_bind().dialect.name == "postgresql":
            await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        waiting = await _with_gpu_hours(session, context, await _waiting(session))
        taken = (await session.execute(select(Job.project_id).where(Job.place_at.is_not(None)))).scalars()
        limits = {
            project: await jobs_at_once(session, project, context.settings.quotas)
            for project in {project for _, project, _ in waiting}
        }
        # One machine runs one job at a time; a cluster's scheduler knows best what fits.
        most = 1 if context.settings.backend == "local" else None
        chosen = choose([(id, project) for id, project, _ in waiting], Counter(taken), limits, most)
        for id in chosen:
            await session.execute(update(Job).where(Job.id == id).values(place_at=int(context.now())))
            await ask_for(session, "job", id)
        return chosen


async def _waiting(session: AsyncSession) -> list[tuple[str, str, str]]:
    """Return the id, project and base of the jobs that wait, the oldest first."""
    query = (
        select(Job.id, Job.project_id, Job.base)
        .where(Job.status == "queued", Job.wanted == "run", Job.place_at.is_(None))
        .order_by(Job.created_at, Job.id)
    )
    return [(id, project, base) for id, project, base in await session.execute(query)]


async def _with_gpu_hours(
    session: AsyncSession, context: Context, waiting: list[tuple[str, str, str]]
) -> list[tuple[str, str, str]]:
    """Return those whose project may use GPUs this month, or that need none."""
    needs = {base.name for base in context.settings.bases if base.gpus}
    projects = {project for _, project, base in waiting if base in needs}
    has = {project for project in projects if await has_gpu_hours(session, project, context.settings.quotas)}
    return [item for item in waiting if item[2] not in needs or item[1] in has]
