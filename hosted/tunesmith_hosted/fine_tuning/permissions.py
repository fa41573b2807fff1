"""`/v1/fine_tuning/checkpoints/{checkpoint}/permissions`: other projects of the organisation may use a checkpoint."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.database.ids import new_id
from tunesmith_hosted.database.tables import Checkpoint, CheckpointPermission, Job, Project
from tunesmith_hosted.fine_tuning.requests import GrantPermissions
from tunesmith_hosted.http.caller import Caller, allowed
from tunesmith_hosted.http.context import ContextOf
from tunesmith_hosted.http.errors import not_found
from tunesmith_hosted.http.pages import check_limit, find_rows, page
from tunesmith_hosted.tenants.audit import add_audit
from tunesmith_hosted.wire.fine_tuning import permission_object

router = APIRouter(prefix="/v1/fine_tuning/checkpoints/{checkpoint}/permissions", tags=["fine-tuning"])

AdminOf = Annotated[Caller, Depends(allowed("admin"))]


@router.post("")
async def grant(checkpoint: str, request: GrantPermissions, caller: AdminOf, context: ContextOf) -> dict[str, Any]:
    """Let projects of the organisation use a checkpoint. One that may already keeps its permission."""
    rows = []
    async with context.sessions.begin() as session:
        found = await _checkpoint(session, caller, checkpoint, lock=True)
        for project_id in dict.fromkeys(request.project_ids):
            mine = Project.id == project_id, Project.organization_id == caller.organization_id
            if (await session.execute(select(Project.id).where(*mine))).first() is None:
                raise not_found("project", project_id, param="project_ids")
            given = CheckpointPermission.checkpoint_id == found.id, CheckpointPermission.project_id == project_id
            row = (await session.execute(select(CheckpointPermission).where(*given))).scalar_one_or_none()
            if row is None:
                row = CheckpointPermission(
                    id=new_id("cp"), checkpoint_id=found.id, project_id=project_id, created_at=int(context.now())
                )
                session.add(row)
                add_audit(session, caller, "checkpoint.permission.created", row.id)
            rows.append(row)
    return page(rows, len(rows), permission_object)


@router.get("")
async def list_permissions(
    checkpoint: str,
    caller: AdminOf,
    context: ContextOf,
    limit: int = 10,
    after: str | None = None,
    order: Literal["ascending", "descending"] = "descending",
    project_id: str | None = None,
) -> dict[str, Any]:
    """List who may use a checkpoint."""
    check_limit(limit, 100)
    async with context.sessions() as session:
        found = await _checkpoint(session, caller, checkpoint)
        rows = await find_rows(
            session,
            CheckpointPermission,
            scope=[CheckpointPermission.checkpoint_id == found.id],
            where=[] if project_id is None else [CheckpointPermission.project_id == project_id],
            limit=limit,
            after=after,
            order="asc" if order == "ascending" else "desc",
        )
    return page(rows, limit, permission_object)


@router.delete("/{permission_id}")
async def revoke(checkpoint: str, permission_id: str, caller: AdminOf, context: ContextOf) -> dict[str, Any]:
    """Take a permission back."""
    async with context.sessions.begin() as session:
        found = await _checkpoint(session, caller, checkpoint)
        mine = CheckpointPermission.checkpoint_id == found.id, CheckpointPermission.id == permission_id
        row = (await session.execute(select(CheckpointPermission).where(*mine))).scalar_one_or_none()
        if row is None:
            raise not_found("permission", permission_id, param="permission_id")
        await session.delete(row)
        add_audit(session, caller, "checkpoint.permission.deleted", permission_id)
    return {"object": "checkpoint.permission", "id": permission_id, "deleted": True}


async def _checkpoint(session: AsyncSession, caller: Caller, name: str, *, lock: bool = False) -> Checkpoint:
    """Return a checkpoint of the caller's project by its model's name."""
    query = select(Checkpoint).join(Job, Checkpoint.job_id == Job.id)
    query = query.where(Checkpoint.model == name, Job.project_id == caller.project_id)
    found = (await session.execute(query.with_for_update(of=Checkpoint) if lock else query)).scalar_one_or_none()
    if found is None:
        raise not_found("checkpoint", name, param="fine_tuned_model_checkpoint")
    return found
