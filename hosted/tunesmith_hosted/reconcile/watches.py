"""Watches what the service has made, so that a change is looked at at once.

What has changed is made due in the outbox. On a cluster each replica watches the namespaces in which something is under
way; on one machine the backend tells of all that it runs. What is missed is found when it is due anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Protocol, runtime_checkable

from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_backend.interface.errors import BackendError
from tunesmith_backend.interface.protocol import Kind, ObjectRef
from tunesmith_hosted.database.tables import Job, Outbox, Project, ServedBase, TunedModel
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.reconcile.models import BASES

_LOOK_SECONDS = 1.0
_PAUSE_SECONDS = 1.0

Place = tuple[Kind, str]
"""A kind, and a namespace."""


@runtime_checkable
class Watched(Protocol):
    """A backend whose objects can be watched by namespace."""

    def changed(self, kind: Kind, namespace: str) -> AsyncIterator[ObjectRef]:
        """Yield the objects of a namespace, then each that is created, changed or deleted."""


@runtime_checkable
class Announcing(Protocol):
    """A backend that tells of all that it runs."""

    def announced(self) -> AsyncIterator[ObjectRef]:
        """Yield each object that something has happened to."""


async def run(context: Context, wake: asyncio.Event, stop: asyncio.Event) -> None:
    """Watch until `stop` is set, as a part of the service's background."""
    backend = context.backend
    if isinstance(backend, Announcing):
        following = asyncio.create_task(_follow(context, backend))
        try:
            await stop.wait()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        return
    if not isinstance(backend, Watched):
        await stop.wait()
        return
    watches: dict[Place, asyncio.Task[None]] = {}
    try:
        while not stop.is_set():
            wanted = await _places(context)
            for place in [place for place, task in watches.items() if place not in wanted or task.done()]:
                watches.pop(place).cancel()
            for place in wanted - watches.keys():
                watches[place] = asyncio.create_task(_watch(context, backend, place))
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await stop.wait()
    finally:
        for task in watches.values():
            task.cancel()
        await asyncio.gather(*watches.values(), return_exceptions=True)


async def _places(context: Context) -> set[Place]:
    """Return where something is under way: what the outbox has a row of."""
    jobs = (
        select(Project.namespace)
        .join(Job, Job.project_id == Project.id)
        .join(Outbox, (Outbox.kind == "job") & (Outbox.subject == Job.id))
        .distinct()
    )
    models = (
        select(Project.namespace)
        .join(TunedModel, TunedModel.project_id == Project.id)
        .join(Outbox, (Outbox.kind == "model") & (Outbox.subject == TunedModel.id))
        .distinct()
    )
    bases = select(Outbox.number).where(Outbox.kind == "model", Outbox.subject.startswith("base:")).limit(1)
    async with context.sessions() as session:
        found: set[Place] = {("FineTuneJob", name) for name in (await session.execute(jobs)).scalars()}
        found |= {("InferenceWorkspace", name) for name in (await session.execute(models)).scalars()}
        if (await session.execute(bases)).first() is not None:
            found.add(("InferenceWorkspace", context.settings.namespace_prefix + BASES))
    return found


async def _follow(context: Context, backend: Announcing) -> None:
    async for ref in backend.announced():
        with suppress(SQLAlchemyError):
            await _make_due(context, ref)


async def _watch(context: Context, backend: Watched, place: Place) -> None:
    """Watch for as long as it is wanted.

    Where that fails, the API server or the database is away, or the namespace is not there yet.
    """
    while True:
        with suppress(BackendError, SQLAlchemyError):
            async for ref in backend.changed(*place):
                await _make_due(context, ref)
        await asyncio.sleep(_PAUSE_SECONDS)


async def _make_due(context: Context, ref: ObjectRef) -> None:
    """Make what an object belongs to due now, if there is something to do about it."""
    now = context.now()
    async with context.sessions.begin() as session:
        kind, subject = await _subject(session, context.settings.namespace_prefix + BASES, ref)
        if subject is None:
            return
        row = (Outbox.kind == kind) & (Outbox.subject == subject) & (Outbox.due_at > now)
        changed = await session.execute(update(Outbox).where(row).values(due_at=now).returning(Outbox.number))
        found = changed.first() is not None
    if found:
        context.wake_reconciler()


async def _subject(session: AsyncSession, bases: str, ref: ObjectRef) -> tuple[str, str | None]:
    """Return what the outbox calls the owner of an object."""
    here = Project.namespace == ref.namespace
    if ref.kind == "FineTuneJob":
        query = select(Job.id).join(Project, Job.project_id == Project.id).where(here, Job.object_name == ref.name)
        return "job", (await session.execute(query)).scalars().first()
    if ref.namespace == bases:
        name = (
            (await session.execute(select(ServedBase.name).where(ServedBase.workspace == ref.name))).scalars().first()
        )
        return "model", None if name is None else f"base:{name}"
    of_model = select(TunedModel.id).join(Project, TunedModel.project_id == Project.id)
    query = of_model.where(here, TunedModel.workspace == ref.name)
    return "model", (await session.execute(query)).scalars().first()
