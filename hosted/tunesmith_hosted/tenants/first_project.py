"""The first project of a service on one machine, so that it can be used at once."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.database.tables import Project
from tunesmith_hosted.http.caller import SCOPES
from tunesmith_hosted.tenants.keys import NewKey, create_key
from tunesmith_hosted.tenants.projects import create_project

ORGANIZATION, PROJECT = "local", "default"


async def create_first_project(session: AsyncSession, namespace_prefix: str) -> NewKey | None:
    """Add an organisation, a project and a key that may do everything; None if there is a project already."""
    if (await session.execute(select(Project.id).limit(1))).first() is not None:
        return None
    project = await create_project(session, ORGANIZATION, PROJECT, namespace_prefix)
    return create_key(session, project.id, "first", scopes=SCOPES)
