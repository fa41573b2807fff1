"""Routes of projects: `/v1/organization/projects`. An administrator sees those of the key's organisation."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.config.settings import Quotas
from tunesmith_hosted.database.outbox import ask_for
from tunesmith_hosted.database.tables import Project
from tunesmith_hosted.http.caller import Caller, allowed
from tunesmith_hosted.http.context import ContextOf
from tunesmith_hosted.http.errors import ApiError, not_found
from tunesmith_hosted.http.pages import check_limit, find_rows, page
from tunesmith_hosted.tenants.audit import add_audit
from tunesmith_hosted.tenants.projects import check_name_is_free, create_project
from tunesmith_hosted.tenants.quotas import quotas_of
from tunesmith_hosted.wire.organization import project_object

router = APIRouter(prefix="/v1/organization/projects", tags=["organization"])

Admin = Annotated[Caller, Depends(allowed("admin"))]
InContext = ContextOf
_MOST = 100


class ProjectName(BaseModel):
    """The body that creates or renames a project."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=32)]


class QuotaChanges(BaseModel):
    """Limits of a project; those that are left out stay, null means without limit."""

    model_config = ConfigDict(extra="forbid")

    jobs_at_once: Annotated[int, Field(ge=0, le=2**31)] | None = None
    gpu_hours_a_month: Annotated[float, Field(ge=0, le=1e9)] | None = None
    stored_bytes: Annotated[int, Field(ge=0, le=2**62)] | None = None
    requests_a_minute: Annotated[int, Field(ge=0, le=2**31)] | None = None
    tokens_a_minute: Annotated[int, Field(ge=0, le=2**31)] | None = None


async def own_project(session: AsyncSession, caller: Caller, id: str) -> Project:
    """Return a project of the caller's organisation.

    Raises:
        ApiError: There is none, or it is another organisation's.
    """
    row = await session.get(Project, id)
    if row is None or row.organization_id != caller.organization_id:
        raise not_found("project", id, param="project_id")
    return row


@router.post("")
async def create(body: ProjectName, caller: Admin, context: InContext) -> dict[str, Any]:
    """Create a project."""
    async with context.sessions.begin() as session:
        try:
            row = await create_project(session, caller.organization, body.name, context.settings.namespace_prefix)
        except ValueError as error:
            raise ApiError(400, str(error), param="name", code="invalid_value") from None
        add_audit(session, caller, "project.created", row.id)
    context.wake_reconciler()
    return project_object(row)


@router.get("")
async def list_projects(
    caller: Admin, context: InContext, limit: int = 20, after: str | None = None, include_archived: bool = False
) -> dict[str, Any]:
    """List the projects, the newest first."""
    check_limit(limit, _MOST)
    scope = [Project.organization_id == caller.organization_id]
    where = [] if include_archived else [Project.archived_at.is_(None)]
    async with context.sessions() as session:
        rows = await find_rows(session, Project, scope=scope, where=where, limit=limit, after=after)
    return page(rows, limit, project_object)


@router.get("/{project_id}")
async def retrieve(project_id: str, caller: Admin, context: InContext) -> dict[str, Any]:
    """Return a project."""
    async with context.sessions() as session:
        return project_object(await own_project(session, caller, project_id))


@router.post("/{project_id}")
async def rename(project_id: str, body: ProjectName, caller: Admin, context: InContext) -> dict[str, Any]:
    """Rename a project. Its namespace keeps its name."""
    async with context.sessions.begin() as session:
        row = await own_project(session, caller, project_id)
        if row.name != body.name:
            try:
                await check_name_is_free(session, row.organization_id, body.name)
            except ValueError as error:
                raise ApiError(400, str(error), param="name", code="invalid_value") from None
            row.name = body.name
            add_audit(session, caller, "project.updated", row.id)
        return project_object(row)


@router.post("/{project_id}/archive")
async def archive(project_id: str, caller: Admin, context: InContext) -> dict[str, Any]:
    """Archive a project: its keys are refused from now on, and the reconciler stops what it runs."""
    async with context.sessions.begin() as session:
        row = await own_project(session, caller, project_id)
        if row.id == caller.project_id:
            raise ApiError(
                400, "This key belongs to the project itself; use one of another project", code="own_project"
            )
        if row.archived_at is None:
            row.archived_at = int(context.now())
            add_audit(session, caller, "project.archived", row.id)
            await ask_for(session, "project", row.id)
    context.wake_reconciler()
    return project_object(row)


@router.get("/{project_id}/quotas")
async def show_quotas(project_id: str, caller: Admin, context: InContext) -> dict[str, Any]:
    """Return the limits of a project. OpenAI's API has no such thing."""
    async with context.sessions() as session:
        row = await own_project(session, caller, project_id)
        return _quotas_object(row, await quotas_of(session, row.id, context.settings.quotas))


@router.post("/{project_id}/quotas")
async def change_quotas(project_id: str, body: QuotaChanges, caller: Admin, context: InContext) -> dict[str, Any]:
    """Change limits of a project."""
    async with context.sessions.begin() as session:
        row = await own_project(session, caller, project_id)
        row.quotas = {**row.quotas, **body.model_dump(exclude_unset=True)}
        add_audit(session, caller, "project.updated", row.id)
        await session.flush()
        return _quotas_object(row, await quotas_of(session, row.id, context.settings.quotas))


def _quotas_object(row: Project, quotas: Quotas) -> dict[str, Any]:
    return {"object": "organization.project.quotas", "project_id": row.id, **quotas.model_dump()}
