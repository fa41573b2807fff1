"""Routes of API keys: `/v1/organization/projects/ID/api_keys`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.database.tables import ApiKey
from tunesmith_hosted.http.caller import SCOPES, Caller
from tunesmith_hosted.http.errors import ApiError, not_found
from tunesmith_hosted.http.pages import check_limit, find_rows, page
from tunesmith_hosted.tenants.audit import add_audit
from tunesmith_hosted.tenants.keys import NewKey, create_key, revoke_key
from tunesmith_hosted.tenants.project_routes import Admin, InContext, own_project
from tunesmith_hosted.wire.organization import api_key_object

router = APIRouter(prefix="/v1/organization/projects/{project_id}/api_keys", tags=["organization"])

_MOST = 100
_MOST_SECONDS = 10 * 366 * 86_400
Seconds = Annotated[int, Field(ge=1, le=_MOST_SECONDS)]


class NewKeyBody(BaseModel):
    """The body that creates a key. It may do everything but administration where `scopes` is left out."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=255)]
    scopes: list[str] | None = None
    expires_in_seconds: Seconds | None = None


class KeyChanges(BaseModel):
    """What can be changed of a key."""

    model_config = ConfigDict(extra="forbid")

    scopes: list[str] | None = None
    expires_in_seconds: Seconds | None = None


class Rotation(BaseModel):
    """How a key is rotated: the old one is valid for `overlap_seconds` more."""

    model_config = ConfigDict(extra="forbid")

    overlap_seconds: Annotated[int, Field(ge=0, le=_MOST_SECONDS)] = 0


@router.post("")
async def create(
    project_id: str, body: NewKeyBody, caller: Admin, context: InContext, response: Response
) -> dict[str, Any]:
    """Create a key. Its secret is in this answer, and nowhere else."""
    async with context.sessions.begin() as session:
        project = await own_project(session, caller, project_id)
        if project.archived_at is not None:
            raise ApiError(400, f"Project {project_id} is archived; it gets no more keys", code="project_archived")
        expires_at = None if body.expires_in_seconds is None else int(context.now()) + body.expires_in_seconds
        scopes = SCOPES - {"admin"} if body.scopes is None else _checked(body.scopes)
        key = create_key(session, project.id, body.name, scopes=scopes, expires_at=expires_at)
        add_audit(session, caller, "api_key.created", key.id)
        await session.flush()
        row = await _own_key(session, caller, project_id, key.id)
    return _with_secret(row, key, response)


@router.get("")
async def list_keys(
    project_id: str, caller: Admin, context: InContext, limit: int = 20, after: str | None = None
) -> dict[str, Any]:
    """List the keys that are not revoked, the newest first."""
    check_limit(limit, _MOST)
    async with context.sessions() as session:
        project = await own_project(session, caller, project_id)
        scope, where = [ApiKey.project_id == project.id], [ApiKey.revoked_at.is_(None)]
        rows = await find_rows(session, ApiKey, scope=scope, where=where, limit=limit, after=after)
    return page(rows, limit, api_key_object)


@router.get("/{api_key_id}")
async def retrieve(project_id: str, api_key_id: str, caller: Admin, context: InContext) -> dict[str, Any]:
    """Return a key, without its secret."""
    async with context.sessions() as session:
        return api_key_object(await _own_key(session, caller, project_id, api_key_id))


@router.post("/{api_key_id}")
async def change(
    project_id: str, api_key_id: str, body: KeyChanges, caller: Admin, context: InContext, request: Request
) -> dict[str, Any]:
    """Change what a key may do, or when it expires."""
    async with context.sessions.begin() as session:
        row = await _own_key(session, caller, project_id, api_key_id)
        if row.expires_at is not None and row.expires_at <= context.now():
            raise ApiError(400, f"Key {api_key_id} has expired; create another", code="api_key_expired")
        if body.scopes is not None:
            row.scopes = sorted(_checked(body.scopes))
        if body.expires_in_seconds is not None:
            row.expires_at = int(context.now()) + body.expires_in_seconds
        add_audit(session, caller, "api_key.updated", row.id)
    request.app.state.callers.forget()
    return api_key_object(row)


@router.post("/{api_key_id}/rotate")
async def rotate(
    project_id: str,
    api_key_id: str,
    body: Rotation,
    caller: Admin,
    context: InContext,
    request: Request,
    response: Response,
) -> dict[str, Any]:
    """Replace a key by a new one with the same name, scopes and expiry. OpenAI's API has no such thing."""
    async with context.sessions.begin() as session:
        old = await _own_key(session, caller, project_id, api_key_id)
        key = create_key(session, old.project_id, old.name, scopes=old.scopes, expires_at=old.expires_at)
        if body.overlap_seconds:
            ends = int(context.now()) + body.overlap_seconds
            old.expires_at = ends if old.expires_at is None else min(ends, old.expires_at)
        else:
            revoke_key(old)
        add_audit(session, caller, "api_key.rotated", old.id)
        await session.flush()
        row = await _own_key(session, caller, project_id, key.id)
    request.app.state.callers.forget()
    return _with_secret(row, key, response)


@router.delete("/{api_key_id}")
async def delete(
    project_id: str, api_key_id: str, caller: Admin, context: InContext, request: Request
) -> dict[str, Any]:
    """Revoke a key. Each replica refuses it within 2 seconds."""
    async with context.sessions.begin() as session:
        row = await _own_key(session, caller, project_id, api_key_id)
        revoke_key(row)
        add_audit(session, caller, "api_key.deleted", row.id)
    request.app.state.callers.forget()
    return {"id": api_key_id, "object": "organization.project.api_key.deleted", "deleted": True}


async def _own_key(session: AsyncSession, caller: Caller, project_id: str, id: str) -> ApiKey:
    project = await own_project(session, caller, project_id)
    row = await session.get(ApiKey, id)
    if row is None or row.project_id != project.id or row.revoked_at is not None:
        raise not_found("API key", id, param="api_key_id")
    return row


def _checked(scopes: list[str]) -> set[str]:
    """Return scopes that exist. An empty list means everything but administration, as in OpenAI's API."""
    if unknown := sorted(set(scopes) - SCOPES):
        message = f"There is no scope {unknown[0]}; write some of {', '.join(sorted(SCOPES))}"
        raise ApiError(400, message, param="scopes", code="invalid_value")
    return set(scopes) or set(SCOPES - {"admin"})


def _with_secret(row: ApiKey, key: NewKey, response: Response) -> dict[str, Any]:
    response.headers["cache-control"] = "no-store"
    return {**api_key_object(row), "scopes": row.scopes, "value": key.secret}
