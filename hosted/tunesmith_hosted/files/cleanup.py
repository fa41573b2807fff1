"""Removes contents that nobody needs any more; the reconciler calls it for the outbox's kind `file`."""

from __future__ import annotations

from sqlalchemy import delete, func, or_, select

from tunesmith_hosted.database.tables import File, Job, Upload, UploadPart
from tunesmith_hosted.files.reservations import paths_of
from tunesmith_hosted.files.store import store_of
from tunesmith_hosted.files.threads import in_thread
from tunesmith_hosted.http.context import Context

_ENDED = ("succeeded", "failed", "cancelled")


class StillUsedError(Exception):
    """A job still reads a deleted file. Try again later."""


async def clean(context: Context, id: str) -> None:
    """Remove what is left of a file, an upload or a part that is deleted, expired, over or was interrupted.

    It may be called at any time, and again: what is still needed stays.

    Raises:
        StillUsedError: A job still reads it.
        ApiError: The store does not answer.
    """
    if id.startswith("upload"):
        await _clean_upload(context, id)
    elif id.startswith("part"):
        await _clean_part(context, id)
    else:
        await _clean_file(context, id)


async def _clean_file(context: Context, id: str) -> None:
    async with context.sessions.begin() as session:
        row = await session.get(File, id)
        if row is not None:
            if row.deleted_at is None and row.expires_at is not None and row.expires_at <= context.now():
                row.deleted_at = row.expires_at
            if row.deleted_at is None:
                return
            reads = or_(Job.training_file == id, Job.validation_file == id)
            running = select(func.count()).select_from(Job).where(reads, Job.status.not_in(_ENDED))
            if (await session.execute(running)).scalar_one():
                raise StillUsedError(f"a job that has not ended reads {id}")
    await _remove(context, paths_of(id) if row is None else (row.path,))


async def _clean_upload(context: Context, id: str) -> None:
    async with context.sessions.begin() as session:
        row = await session.get(Upload, id, with_for_update=True)
        if row is None:
            return
        if row.status == "pending":
            if row.expires_at > context.now():
                return
            row.status = "expired"
        query = select(UploadPart).where(UploadPart.upload_id == id)
        parts = list((await session.execute(query)).scalars())
    for part in parts:
        await _remove(context, (part.path,))
    async with context.sessions.begin() as session:
        await session.execute(delete(UploadPart).where(UploadPart.id.in_([part.id for part in parts])))


async def _clean_part(context: Context, id: str) -> None:
    async with context.sessions() as session:
        if await session.get(UploadPart, id) is not None:
            return  # its upload cares for it
    await _remove(context, paths_of(id))


async def _remove(context: Context, paths: tuple[str, ...]) -> None:
    store = store_of(context)
    for path in paths:
        await in_thread(store.remove, path)
