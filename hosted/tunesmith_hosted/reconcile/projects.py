"""The namespace of a project on a cluster, and the end of one that is archived."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, runtime_checkable

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_backend.interface.protocol import Kind
from tunesmith_hosted.database.outbox import ask_for
from tunesmith_hosted.database.tables import Job, Outbox, Project, TunedModel
from tunesmith_hosted.fine_tuning.events import FINISHED
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.reconcile.models import BASES
from tunesmith_hosted.reconcile.namespaces import namespace_objects, namespace_path, rights_objects

_AGAIN_SECONDS = 600.0
_TRIES, _PAUSE = 25, 0.2


@runtime_checkable
class Namespaces(Protocol):
    """A backend that has namespaces."""

    async def apply_object(self, path: str, body: dict[str, Any]) -> None:
        """Create or update any object of the Kubernetes API."""

    async def delete_object(self, path: str) -> None:
        """Delete any object; nothing happens if there is none."""

    async def may_create(self, kind: Kind, namespace: str) -> bool:
        """Return whether the service may create objects of a kind in a namespace."""


async def look_at_project(context: Context, id: str) -> float | None:
    """Make the namespace of a project what it should be, or end what an archived one runs.

    Looked at again after a while, for what others have changed meanwhile, and Secrets that were rotated.

    Args:
        context: The service.
        id: The project's id, or `BASES` for the namespace of the base models, which all projects share.
    """
    backend = context.backend
    async with context.sessions() as session:
        project = await session.get(Project, id)
    if project is not None and project.archived_at is not None:
        await _stop(context, id, with_namespace=isinstance(backend, Namespaces))
        if isinstance(backend, Namespaces):
            await backend.delete_object(namespace_path(project.namespace))
        return None
    if not isinstance(backend, Namespaces) or (project is None and id != BASES):
        return None
    if project is None:
        await _make(context, backend, context.settings.namespace_prefix + BASES, "", {})
    else:
        await _make(context, backend, project.namespace, id, project.quotas.get("resources", {}))
        await _ask_for_bases(context)
    return _AGAIN_SECONDS


async def ask_for_namespace(context: Context, kind: str, subject: str, error: BackendError) -> None:
    """Look at the namespace of a job or a model that was refused: it or the service's rights in it may be gone."""
    if error.kind not in (ErrorKind.NOT_FOUND, ErrorKind.FAILED):
        return
    async with context.sessions.begin() as session:
        if project := await _project_of(session, kind, subject):
            await ask_for(session, "project", project)
    context.wake_reconciler()


async def _make(context: Context, backend: Namespaces, namespace: str, project_id: str, limits: dict[str, str]) -> None:
    cluster = context.settings.cluster
    for path, body in rights_objects(namespace, project_id, cluster):
        await backend.apply_object(path, body)
    if cluster.role:
        await _wait_for_rights(backend, namespace)
    for path, body in namespace_objects(namespace, limits, cluster):
        await backend.apply_object(path, body)


async def _wait_for_rights(backend: Namespaces, namespace: str) -> None:
    """Wait until the API server knows of a new binding: a moment, in which it refuses what the binding allows."""
    for _ in range(_TRIES):
        if await backend.may_create("FineTuneJob", namespace):
            return
        await asyncio.sleep(_PAUSE)
    raise BackendError("the API server does not let the service work in a namespace; see the chart's roles")


async def _project_of(session: AsyncSession, kind: str, subject: str) -> str | None:
    if kind == "job":
        return (await session.execute(select(Job.project_id).where(Job.id == subject))).scalar_one_or_none()
    if kind == "model" and subject.startswith("base:"):
        return BASES
    query = select(TunedModel.project_id).where(TunedModel.id == subject)
    return (await session.execute(query)).scalar_one_or_none() if kind == "model" else None


async def _ask_for_bases(context: Context) -> None:
    """Let the namespace of the base models be made, if nobody has asked for that yet."""
    async with context.sessions.begin() as session:
        query = select(Outbox.number).where(Outbox.kind == "project", Outbox.subject == BASES)
        if (await session.execute(query)).first() is None:
            await ask_for(session, "project", BASES)


async def _stop(context: Context, id: str, *, with_namespace: bool) -> None:
    """Cancel the jobs of a project, and let its models sleep; what they run is stopped, or goes with the namespace."""
    async with context.sessions.begin() as session:
        jobs = select(Job).where(Job.project_id == id, Job.status.not_in(FINISHED)).with_for_update()
        for job in (await session.execute(jobs)).scalars():
            job.wanted, job.status, job.finished_at = "cancel", "cancelled", int(context.now())
            job.estimated_finish = job.place_at = None
            await ask_for(session, "job", job.id)
        models = select(TunedModel).where(TunedModel.project_id == id, TunedModel.wanted == "awake").with_for_update()
        for model in (await session.execute(models)).scalars():
            model.wanted, model.endpoint = "asleep", None
            await ask_for(session, "model", model.id)
        if with_namespace:
            of_project = (
                select(Job.id).where(Job.project_id == id),
                select(TunedModel.id).where(TunedModel.project_id == id),
            )
            for kind, ids in zip(("job", "model"), of_project, strict=True):
                await session.execute(delete(Outbox).where(Outbox.kind == kind, Outbox.subject.in_(ids)))
    context.wake_reconciler()
