"""API keys: shown once, stored as salted hashes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.database.ids import new_id
from tunesmith_hosted.database.tables import ApiKey, Organization, Project
from tunesmith_hosted.http.caller import SCOPES, Caller

_MARK = "sk-ts-"
_USED_SECONDS = 60  # last_used_at is to the minute
_LOOKUP_BYTES, _SECRET_BYTES = 9, 32


@dataclass(frozen=True)
class NewKey:
    """A key that was just created. The secret is not stored, so this is the only place that has it."""

    id: str
    secret: str


def create_key(
    session: AsyncSession,
    project_id: str,
    name: str,
    *,
    scopes: Iterable[str] = SCOPES - {"admin"},
    expires_at: int | None = None,
) -> NewKey:
    """Add a key for a project to the session.

    The key is `sk-ts-LOOKUP-SECRET`: the row is found by LOOKUP, so that only one hash is computed. SECRET has 256
    random bits, so a fast salted hash is as good as a slow one.
    """
    lookup, secret = secrets.token_hex(_LOOKUP_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    salt = secrets.token_hex(16)
    row = ApiKey(
        id=new_id("key"),
        project_id=project_id,
        name=name,
        lookup=lookup,
        salt=salt,
        hash=_hash(salt, secret),
        scopes=sorted(scopes),
        created_at=int(time.time()),
        expires_at=expires_at,
    )
    session.add(row)
    return NewKey(row.id, f"{_MARK}{lookup}-{secret}")


def revoke_key(row: ApiKey) -> None:
    """Revoke a key; it stays revoked since the first time."""
    row.revoked_at = row.revoked_at or int(time.time())


async def find_caller(session: AsyncSession, key: str) -> Caller | None:
    """Return who has a key, None if it is unknown, revoked or expired, or its project is archived."""
    lookup, _, secret = key.removeprefix(_MARK).partition("-")
    if not key.startswith(_MARK) or not secret:
        return None
    found = (
        await session.execute(
            select(ApiKey, Project, Organization)
            .join(Project, ApiKey.project_id == Project.id)
            .join(Organization, Project.organization_id == Organization.id)
            .where(ApiKey.lookup == lookup)
        )
    ).one_or_none()
    if found is None:
        return None
    row, project, organization = found
    if not hmac.compare_digest(row.hash, _hash(row.salt, secret)):
        return None
    if row.revoked_at is not None or project.archived_at is not None:
        return None
    if row.expires_at is not None and row.expires_at <= time.time():
        return None
    now = int(time.time())
    if row.last_used_at is None or row.last_used_at <= now - _USED_SECONDS:
        row.last_used_at = now
    scopes = frozenset(row.scopes)
    return Caller(organization.id, organization.name, project.id, project.namespace, row.id, scopes, project.quotas)


def _hash(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}{secret}".encode()).hexdigest()
