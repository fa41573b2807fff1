"""The route of the audit log: `/v1/organization/audit_logs`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from tunesmith_hosted.database.tables import AuditEntry
from tunesmith_hosted.http.pages import check_limit, find_rows, page
from tunesmith_hosted.tenants.project_routes import Admin, InContext
from tunesmith_hosted.wire.organization import audit_log_object

router = APIRouter(prefix="/v1/organization", tags=["organization"])

_MOST = 100
_LONG_AGO, _NEVER = 0, 2**62


@router.get("/audit_logs")
async def list_entries(
    caller: Admin,
    context: InContext,
    limit: int = 20,
    after: str | None = None,
    before: str | None = None,
    event_types: Annotated[list[str] | None, Query(alias="event_types[]")] = None,
    project_ids: Annotated[list[str] | None, Query(alias="project_ids[]")] = None,
    actor_ids: Annotated[list[str] | None, Query(alias="actor_ids[]")] = None,
    resource_ids: Annotated[list[str] | None, Query(alias="resource_ids[]")] = None,
    since: Annotated[int, Query(alias="effective_at[gte]", ge=_LONG_AGO, le=_NEVER)] = _LONG_AGO,
    until: Annotated[int, Query(alias="effective_at[lt]", ge=_LONG_AGO, le=_NEVER)] = _NEVER,
) -> dict[str, Any]:
    """List what was done in the organisation, the newest first."""
    check_limit(limit, _MOST)
    scope = [AuditEntry.organization_id == caller.organization_id]
    where = [AuditEntry.created_at >= since, AuditEntry.created_at < until]
    for column, wanted in (
        (AuditEntry.action, event_types),
        (AuditEntry.project_id, project_ids),
        (AuditEntry.actor, actor_ids),
        (AuditEntry.subject, resource_ids),
    ):
        if wanted:
            where.append(column.in_(wanted))
    async with context.sessions() as session:
        rows = await find_rows(session, AuditEntry, scope=scope, where=where, limit=limit, after=after, before=before)
    return page(rows, limit, audit_log_object)
