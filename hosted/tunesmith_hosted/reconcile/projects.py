"""The namespace of a project on a cluster; on one machine there is nothing to do."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from tunesmith_hosted.database.tables import Project
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.reconcile.models import BASES
from tunesmith_hosted.reconcile.namespaces import namespace_objects


@runtime_checkable
class AppliesObjects(Protocol):
    """A backend that has namespaces."""

    async def apply_object(self, path: str, body: dict[str, Any]) -> None:
        """Create or update any object of the Kubernetes API."""


async def look_at_project(context: Context, id: str) -> float | None:
    """Make the namespace of a project what it should be, and that of the base models, which all share."""
    async with context.sessions() as session:
        project = await session.get(Project, id)
    backend = context.backend
    if project is None or not isinstance(backend, AppliesObjects):
        return None
    limits = project.quotas.get("resources", {})
    shared = context.settings.namespace_prefix + BASES
    for path, body in (*namespace_objects(project.namespace, id, limits), *namespace_objects(shared, "", {})):
        await backend.apply_object(path, body)
    return None
