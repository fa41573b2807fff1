"""`/console/api/session`: who uses the console, and in which project."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.config.settings import Settings
from tunesmith_hosted.console.sign_in.cookies import Cookies
from tunesmith_hosted.console.sign_in.sessions import find_session, granted_projects
from tunesmith_hosted.database.tables import ConsoleSession, Project
from tunesmith_hosted.http.context import ContextOf
from tunesmith_hosted.http.errors import ApiError, not_found

router = APIRouter(prefix="/console/api", tags=["console"], include_in_schema=False)


class Choose(BaseModel):
    """The body of `POST /console/api/session/project`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: str


@router.get("/session")
async def get_session(request: Request, context: ContextOf) -> dict[str, Any]:
    """Return who uses the console and what they may do; without a key or a session only how to sign in."""
    sign_in = context.settings.sign_in
    caller = getattr(request.state, "caller", None)
    found: dict[str, Any] = {
        "person": None,
        "project": None,
        "organization": None,
        "scopes": [],
        "projects": [],
        "providers": [
            {"id": provider.id, "name": provider.name or provider.id, "url": f"/console/api/login/{provider.id}"}
            for provider in sign_in.providers
        ],
    }
    if caller is None:
        return found
    async with context.sessions() as session:
        project = await session.get_one(Project, caller.project_id)
        row = await _own(request, session, context.settings)
        if row is not None:
            granted = await granted_projects(session, context.settings, row.groups, row.email)
            found["person"] = {"name": row.name, "email": row.email}
            found["projects"] = [
                {"id": item.project.id, "name": item.project.name, "organization": item.organization.name}
                for item in granted
            ]
    return {
        **found,
        "project": {"id": project.id, "name": project.name},
        "organization": {"id": caller.organization_id, "name": caller.organization},
        "scopes": sorted(caller.scopes),
    }


@router.post("/session/project")
async def choose_project(request: Request, body: Choose, context: ContextOf) -> dict[str, Any]:
    """Let somebody who is signed in work in another project that is open to them."""
    async with context.sessions.begin() as session:
        row = await _own(request, session, context.settings)
        if row is None:
            raise ApiError(401, "Nobody is signed in; a key is for one project", code="not_signed_in")
        granted = await granted_projects(session, context.settings, row.groups, row.email)
        if body.project not in {item.project.id for item in granted}:
            raise not_found("project", body.project, param="project")
        row.project_id = body.project
    return {"project": body.project}


async def _own(request: Request, session: AsyncSession, settings: Settings) -> ConsoleSession | None:
    """Return the session of whoever made a request by a cookie; None where a key was given."""
    value = request.cookies.get(Cookies(settings).session)
    if not value or "authorization" in request.headers or not settings.sign_in.providers:
        return None
    return await find_session(session, value)
