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
    _check_name("organization", organization)
    _check_name("project", name)
    now = int(time.time())
    owner = (await session.execute(select(Organization).where(Organization.name == organization))).scalar_one_or_none()
    if owner is None:
        owner = Organization(id=new_id("org"), name=organization, created_at=now)
        session.add(owner)
        await session.flush()
    await check_name_is_free(session, owner.id, name)
    id = new_id("proj")
    namespace = f"{namespace_prefix}{name[:24]}-{id[-6:].lower()}"
    project = Project(id=id, organization_id=owner.id, name=name, namespace=namespace, quotas={}, created_at=now)
    session.add(project)
    await session.flush()
    await ask_for(session, "project", id)
    return project


async def check_name_is_free(session: AsyncSession, organization_id: str, name: str) -> None:
    """Raise ValueError if a project cannot have a name: it is not valid, or another has it."""
    _check_name("project", name)
    found = await session.execute(
        select(Project.id).where(Project.organization_id == organization_id, Project.name == name)
    )
    if found.first() is not None:
        raise ValueError(f"the organization has a project {name} already; choose another name")


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what} {name!r} must be lower-case letters, digits and dashes, at most 32 characters")
