"""Sessions of people, in the database: any replica takes them, and signing out ends them everywhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.config.settings import Settings
from tunesmith_hosted.console.sign_in.cookies import Cookies, digest, new_secret
from tunesmith_hosted.console.sign_in.provider import Person, SignInError
from tunesmith_hosted.database.engine import Sessions
from tunesmith_hosted.database.tables import ConsoleSession, Organization, Project
from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.tenants.audit import add_audit


@dataclass(frozen=True)
class Granted:
    """A project, and what a person may do in it."""

    project: Project
    organization: Organization
    scopes: frozenset[str]


class SessionCallers:
    """Finds who makes a request by its cookies. What they may do is what the settings say now."""

    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self._settings = settings
        self._sessions = sessions
        self._name = Cookies(settings).session

    async def find(self, cookies: Mapping[str, str]) -> Caller | None:
        """Return who is signed in, None if nobody is."""
        value = cookies.get(self._name)
        if not value or not self._settings.sign_in.providers:
            return None
        async with self._sessions() as session:
            row = await find_session(session, value)
            if row is None:
                return None
            granted = await granted_projects(session, self._settings, row.groups, row.email)
        mine = next((item for item in granted if item.project.id == row.project_id), None)
        return None if mine is None else _caller(row, mine)


async def find_session(session: AsyncSession, value: str) -> ConsoleSession | None:
    """Return the session of a cookie's value, None if there is none, or it is over."""
    query = select(ConsoleSession).where(ConsoleSession.id == digest(value), ConsoleSession.expires_at > time.time())
    return (await session.execute(query)).scalar_one_or_none()


async def granted_projects(
    session: AsyncSession, settings: Settings, groups: list[str], email: str | None
) -> list[Granted]:
    """Return the projects that a person may use, by name."""
    scopes = settings.sign_in.scopes_of(frozenset(groups), email)
    if not scopes:
        return []
    names = {name.partition("/")[2] for name in scopes}
    query = select(Project, Organization).join(Organization, Project.organization_id == Organization.id)
    query = query.where(Project.name.in_(names), Project.archived_at.is_(None))
    rows = await session.execute(query.order_by(Organization.name, Project.name))
    return [
        Granted(project, organization, found)
        for project, organization in rows
        if (found := scopes.get(f"{organization.name}/{project.name}"))
    ]


async def start_session(session: AsyncSession, settings: Settings, provider: str, person: Person) -> str:
    """Add a session for a person, and return its cookie's value.

    Raises:
        SignInError: No project is open to them.
    """
    granted = await granted_projects(session, settings, sorted(person.groups), person.email)
    if not granted:
        raise SignInError(
            f"You are signed in as {person.email or person.name}, and no project is open to you. Ask an administrator "
            "for a grant (setting sign_in.grants) for one of your groups, or for your e-mail address",
            "no grant",
        )
    value, now = new_secret(), int(time.time())
    await session.execute(delete(ConsoleSession).where(ConsoleSession.expires_at <= now))
    row = ConsoleSession(
        id=digest(value),
        provider=provider,
        subject=person.subject,
        name=person.name,
        email=person.email,
        groups=sorted(person.groups),
        project_id=granted[0].project.id,
        created_at=now,
        expires_at=now + settings.sign_in.session_seconds,
    )
    session.add(row)
    add_audit(session, _caller(row, granted[0]), "session.created", row.id[:16])
    return value


async def end_session(session: AsyncSession, settings: Settings, value: str) -> None:
    """Remove the session of a cookie's value; nothing happens if there is none."""
    row = await find_session(session, value)
    if row is None:
        return
    granted = await granted_projects(session, settings, row.groups, row.email)
    mine = next((item for item in granted if item.project.id == row.project_id), None)
    if mine is not None:
        add_audit(session, _caller(row, mine), "session.ended", row.id[:16])
    await session.delete(row)


def _caller(row: ConsoleSession, granted: Granted) -> Caller:
    project, organization = granted.project, granted.organization
    return Caller(
        organization_id=organization.id,
        organization=organization.name,
        project_id=project.id,
        namespace=project.namespace,
        actor=f"{row.provider}:{row.subject}"[:255],
        scopes=granted.scopes,
        quotas=project.quotas,
    )
