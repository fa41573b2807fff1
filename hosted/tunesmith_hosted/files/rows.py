"""Files of a project in the database."""

from __future__ import annotations

import asyncio

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.database.outbox import ask_for
from tunesmith_hosted.database.tables import File
from tunesmith_hosted.files.content import Content
from tunesmith_hosted.files.reservations import settle
from tunesmith_hosted.files.threads import in_thread
from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.http.errors import ApiError, not_found
from tunesmith_hosted.tenants.audit import add_audit
from tunesmith_hosted.tenants.quotas import check_stored_bytes


def shown(now: float) -> ColumnElement[bool]:
    """Return the condition of files that are neither deleted nor expired."""
    return File.deleted_at.is_(None) & or_(File.expires_at.is_(None), File.expires_at > int(now))


async def find_file(session: AsyncSession, project_id: str, id: str, now: float, *, param: str = "file_id") -> File:
    """Return a file of a project.

    Args:
        session: A session of the database.
        project_id: The project.
        id: The file's id.
        now: The time.
        param: What the id was given as, for the error.

    Raises:
        ApiError: The project has no such file, or it is deleted or expired.
    """
    query = select(File).where(File.id == id, File.project_id == project_id, shown(now))
    found = (await session.execute(query)).scalar_one_or_none()
    if found is None:
        raise not_found("File object", id, param=param)
    return found


async def keep(content: Content, purpose: str, param: str) -> None:
    """Make a content that was written appear in the store. It is discarded if it is not what its purpose needs.

    Raises:
        ApiError: It is not, or the store does not take it.
    """
    try:
        await in_thread(content.commit)
        if content.size == 0:
            raise ApiError(400, "The file is empty", param=param, code="empty_file")
        if purpose == "fine-tune" and content.inspection.error is not None:
            message = f"Invalid file format for fine-tune. {content.inspection.error}"
            raise ApiError(400, message, param=param, code="invalid_file_format")
    except BaseException:
        await asyncio.shield(in_thread(content.discard))
        raise


async def add_file(
    session: AsyncSession,
    context: Context,
    caller: Caller,
    content: Content,
    *,
    id: str,
    filename: str,
    purpose: str,
    kept: int | None,
) -> File:
    """Add the row of a content that the store has, in this transaction.

    Raises:
        ApiError: The project has no room for it.
    """
    await check_stored_bytes(session, caller, content.size, context.settings.quotas)
    now = int(context.now())
    row = File(
        id=id,
        project_id=caller.project_id,
        filename=filename[:255],
        purpose=purpose,
        bytes=content.size,
        sha256=content.sha256,
        path=content.path,
        status="processed",
        status_details=None,
        created_at=now,
        expires_at=None if kept is None else now + kept,
        deleted_at=None,
    )
    session.add(row)
    await settle(session, id, expires_in=kept)
    add_audit(session, caller, "file.created", id)
    return row


async def delete_file(session: AsyncSession, context: Context, caller: Caller, id: str) -> None:
    """Mark a file as deleted, in this transaction; its content is removed later.

    Raises:
        ApiError: The project has no such file.
    """
    row = await find_file(session, caller.project_id, id, context.now())
    row.deleted_at = int(context.now())
    await ask_for(session, "file", id)
    add_audit(session, caller, "file.deleted", id)
