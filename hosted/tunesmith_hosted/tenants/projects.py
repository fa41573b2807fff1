"""Organisations and projects."""

from __future__ import annotations

import re
import time

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.database.ids import new_id
from tunesmith_hosted.database.outbox import ask_for
from tunesmith_hosted.database.tables import Organization, Project

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


async def create_project(session: AsyncSession, organization: str, name: str, namespace_prefix: str) -> Project:
    """Add a project to the session, and its organisation if there is none of this name.

    The namespace's name ends in random characters, so that no project can claim another's by its name.

    Raises:
        ValueError: A name is not a DNS label of at most 32 characters, or the project exists.
    """
    for what, value in (("organization", organization), ("project", name)):
        if not _NAME.fullmatch(value):
            raise ValueError(f"{what} {value!r} must be lower-case letters, digits and dashes, at most 32 characters")
    now = int(time.time())
    owner = (await session.execute(select(Organization).where(Organization.name == organization))).scalar_one_or_none()
    if owner is None:
        owner = Organization(id=new_id("org"), name=organization, created_at=now)
        session.add(owner)
        await session.flush()
    found = await session.execute(select(Project.id).where(Project.organization_id == owner.id, Project.name == name))
    if found.first() is not None:
        raise ValueError(f"organization {organization} has a project {name} already; choose another name")
    id = new_id("proj")
    namespace = f"{namespace_prefix}{name[:24]}-{id[-6:].lower()}"
    project = Project(id=id, organization_id=owner.id, name=name, namespace=namespace, quotas={}, created_at=now)
    session.add(project)
    await session.flush()
    await ask_for(session, "project", id)
    return project
