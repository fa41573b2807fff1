"""Uploads: files that arrive in parts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.database.ids import new_id
from tunesmith_hosted.database.outbox import ask_for
from tunesmith_hosted.database.tables import File, Upload, UploadPart
from tunesmith_hosted.files.content import Content
from tunesmith_hosted.files.reservations import path_of, reserve
from tunesmith_hosted.files.rows import add_file, keep
from tunesmith_hosted.files.store import store_of
from tunesmith_hosted.files.threads import in_thread
from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.http.errors import ApiError, not_found
from tunesmith_hosted.tenants.audit import add_audit


async def find_upload(session: AsyncSession, caller: Caller, id: str, *, lock: bool = False) -> Upload:
    """Return an upload of the caller's project.

    Args:
        session: A session of the database.
        caller: Whose upload it is.
        id: Its id.
        lock: Whether its status stays as it is until the end of the transaction.

    Raises:
        ApiError: There is none.
    """
    query = select(Upload).where(Upload.id == id, Upload.project_id == caller.project_id)
    if lock:
        query = query.with_for_update()
    found = (await session.execute(query)).scalar_one_or_none()
    if found is None:
        raise not_found("Upload", id, param="upload_id")
    return found


def check_pending(row: Upload, now: float) -> None:
    """Check that an upload still takes parts.

    Raises:
        ApiError: It is over.
    """
    status = "expired" if row.status == "pending" and row.expires_at <= now else row.status
    if status != "pending":
        message = f"Upload {row.id} is {status}; create another one"
        raise ApiError(400, message, param="upload_id", code="upload_not_pending")


async def complete(
    context: Context, caller: Caller, id: str, part_ids: Sequence[str], md5: str | None
) -> tuple[Upload, File]:
    """Make a file of the parts of an upload, in the given order, without holding them.

    Done again after it has succeeded, as clients do whose connection broke, it returns the same.

    Raises:
        ApiError: The parts are not what was announced, or the upload is over.
    """
    async with context.sessions.begin() as session:
        upload = await find_upload(session, caller, id)
        if done := await _finished(session, upload):
            return upload, done
        check_pending(upload, context.now())
        parts = await _ordered(session, upload, part_ids)
        file_id = new_id("file")
        await reserve(session, file_id, context.settings.upload_seconds)
    content = await in_thread(Content, store_of(context), path_of(file_id, upload.filename))
    try:
        for part in parts:
            await in_thread(content.append, part.path)
        if md5 is not None and md5.lower() != content.md5:
            message = f"md5 is {content.md5} of what has come, not {md5}; upload it again"
            raise ApiError(400, message, param="md5", code="md5_mismatch")
        await keep(content, upload.purpose, "part_ids")
        async with context.sessions.begin() as session:
            row = await find_upload(session, caller, id, lock=True)
            if first := await _finished(session, row):  # another request was faster
                await in_thread(content.discard)
                return row, first
            check_pending(row, context.now())
            row.status = "completed"
            await session.flush()  # from here on its parts are not counted as stored
            file = await add_file(
                session,
                context,
                caller,
                content,
                id=file_id,
                filename=row.filename,
                purpose=row.purpose,
                kept=row.file_expires_after,
            )
            await session.flush()
            row.file_id = file_id
            await ask_for(session, "file", id)
            add_audit(session, caller, "upload.completed", id)
    except BaseException:
        await asyncio.shield(in_thread(content.discard))
        raise
    context.wake_reconciler()
    return row, file


async def cancel(context: Context, caller: Caller, id: str) -> Upload:
    """Cancel an upload. Its parts are removed later.

    Raises:
        ApiError: It is over.
    """
    async with context.sessions.begin() as session:
        row = await find_upload(session, caller, id, lock=True)
        if row.status != "cancelled":
            check_pending(row, context.now())
            row.status = "cancelled"
            await ask_for(session, "file", id)
            add_audit(session, caller, "upload.cancelled", id)
    context.wake_reconciler()
    return row


async def _finished(session: AsyncSession, upload: Upload) -> File | None:
    return None if upload.file_id is None else await session.get_one(File, upload.file_id)


async def _ordered(session: AsyncSession, upload: Upload, part_ids: Sequence[str]) -> list[UploadPart]:
    if len(set(part_ids)) != len(part_ids):
        raise ApiError(400, "part_ids names a part twice", param="part_ids", code="invalid_value")
    query = select(UploadPart).where(UploadPart.upload_id == upload.id)
    found = {part.id: part for part in (await session.execute(query)).scalars()}
    if missing := next((id for id in part_ids if id not in found), None):
        raise ApiError(400, f"Upload {upload.id} has no part {missing}", param="part_ids", code="invalid_value")
    parts = [found[id] for id in part_ids]
    if (total := sum(part.bytes for part in parts)) != upload.bytes:
        message = f"The parts have {total} bytes together, but the upload was created for {upload.bytes}"
        raise ApiError(400, message, param="part_ids", code="bytes_mismatch")
    return parts
