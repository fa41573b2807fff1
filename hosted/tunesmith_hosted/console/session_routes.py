"""`/console/api/session`: who uses the console."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from tunesmith_hosted.database.tables import Project
from tunesmith_hosted.http.context import ContextOf

router = APIRouter(prefix="/console/api", tags=["console"])


@router.get("/session", include_in_schema=False)
async def get_session(request: Request, context: ContextOf) -> dict[str, Any]:
    """Return who uses the console and what they may do; without a key or a session only how to sign in."""
    caller = getattr(request.state, "caller", None)
    found: dict[str, Any] = {"person": None, "project": None, "organization": None, "scopes": [], "providers": []}
    if caller is None:
        return found
    async with context.sessions() as session:
        project = await session.get_one(Project, caller.project_id)
    return {
        **found,
        "project": {"id": project.id, "name": project.name},
        "organization": {"id": caller.organization_id, "name": caller.organization},
        "scopes": sorted(caller.scopes),
    }
