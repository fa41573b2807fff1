"""What an administrator does with the database at hand: projects and keys, by the command line."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.config.settings import Settings
from tunesmith_hosted.database.tables import ApiKey, Organization, Project
from tunesmith_hosted.http.caller import SCOPES, Caller
from tunesmith_hosted.tenants.audit import add_audit
from tunesmith_hosted.tenants.first_project import ORGANIZATION
from tunesmith_hosted.tenants.keys import create_key, revoke_key
from tunesmith_hosted.tenants.projects import create_project

ACTOR = "command-line"
_SECONDS_A_DAY = 86_400
Say = Callable[[str], None]


class NotThereError(Exception):
    """There is no such project or key. The message says how to find it."""


async def add_project(session: AsyncSession, settings: Settings, name: str, say: Say) -> None:
    """Create a project, given as NAME or ORGANIZATION/NAME.

    Raises:
        ValueError: The name is not valid, or taken.
    """
    organization, _, short = name.rpartition("/")
    project = await create_project(session, organization or ORGANIZATION, short, settings.namespace_prefix)
    add_audit(session, _caller(project, organization or ORGANIZATION), "project.created", project.id)
    say(f"project {project.id} namespace {project.namespace}")


async def list_projects(session: AsyncSession, say: Say) -> None:
    """Print all projects."""
    query = select(Project, Organization).join(Organization).order_by(Project.created_at, Project.id)
    for project, organization in (await session.execute(query)).tuples():
        state = "archived" if project.archived_at else "active"
        say(f"{project.id} {organization.name}/{project.name} {state} namespace {project.namespace}")


async def add_key(
    session: AsyncSession, project: str, name: str, scopes: Sequence[str], days: int | None, say: Say
) -> None:
    """Create a key of a project, and print it, once.

    Raises:
        NotThereError: There is no such project.
        ValueError: There is no such scope.
    """
    if unknown := sorted(set(scopes) - SCOPES):
        raise ValueError(f"there is no scope {', '.join(unknown)}; write some of {', '.join(sorted(SCOPES))}")
    row, organization = await _project(session, project)
    expires_at = None if days is None else int(time.time()) + days * _SECONDS_A_DAY
    key = create_key(session, row.id, name, scopes=scopes, expires_at=expires_at)
    add_audit(session, _caller(row, organization.name), "api_key.created", key.id)
    say(f"key {key.id} api_key={key.secret}")


async def delete_key(session: AsyncSession, id: str, say: Say) -> None:
    """Revoke a key.

    Raises:
        NotThereError: There is no such key.
    """
    row = await session.get(ApiKey, id)
    if row is None:
        raise NotThereError(f"there is no key {id}; `tunesmith hosted keys list` shows them")
    project, organization = await _project(session, row.project_id)
    revoke_key(row)
    add_audit(session, _caller(project, organization.name), "api_key.deleted", id)
    say(f"key {id} revoked; every replica refuses it within 5 s")


async def list_keys(session: AsyncSession, say: Say) -> None:
    """Print all keys, without their secrets."""
    query = select(ApiKey, Project, Organization).join(Project, ApiKey.project_id == Project.id).join(Organization)
    for key, project, organization in (await session.execute(query.order_by(ApiKey.created_at))).tuples():
        expired = key.expires_at is not None and key.expires_at <= time.time()
        state = "revoked" if key.revoked_at else "expired" if expired else "valid"
        say(f"{key.id} {organization.name}/{project.name} {key.name!r} {state} {','.join(key.scopes)}")


async def _project(session: AsyncSession, name: str) -> tuple[Project, Organization]:
    organization, _, short = name.rpartition("/")
    by_name = (Organization.name == (organization or ORGANIZATION)) & (Project.name == short)
    found = (
        (await session.execute(select(Project, Organization).join(Organization).where((Project.id == name) | by_name)))
        .tuples()
        .one_or_none()
    )
    if found is None:
        raise NotThereError(f"there is no project {name}; `tunesmith hosted projects list` shows them")
    return found


def _caller(project: Project, organization: str) -> Caller:
    return Caller(project.organization_id, organization, project.id, project.namespace, ACTOR, SCOPES)
