"""`/v1/files`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse

from tunesmith_hosted.database.ids import new_id
from tunesmith_hosted.database.tables import File
from tunesmith_hosted.files.content import Content
from tunesmith_hosted.files.multipart import Form, receive
from tunesmith_hosted.files.purposes import PURPOSES, check_purpose, of_form
from tunesmith_hosted.files.reservations import path_of, reserve
from tunesmith_hosted.files.rows import add_file, delete_file, find_file, keep, shown
from tunesmith_hosted.files.store import CHUNK, Store, store_of
from tunesmith_hosted.files.threads import in_thread
from tunesmith_hosted.http.caller import Caller, allowed
from tunesmith_hosted.http.context import ContextOf
from tunesmith_hosted.http.pages import check_limit, find_rows, page
from tunesmith_hosted.tenants.quotas import check_stored_bytes
from tunesmith_hosted.wire.files import file_object

router = APIRouter(prefix="/v1")

CallerOf = Annotated[Caller, Depends(allowed("files"))]

MOST_LISTED = 10_000

_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": list(PURPOSES)},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "integer"},
                    },
                }
            }
        },
    }
}


@router.post("/files", openapi_extra=_FORM)
async def create_file(
    request: Request,
    caller: CallerOf,
    context: ContextOf,
) -> dict[str, Any]:
    """Store a file."""
    form = Form(request.headers.get("content-type", ""), "file")
    id = new_id("file")

    async def start(form: Form) -> Content:
        if "purpose" in form.fields:  # refused before all of it has come, if the purpose comes first
            check_purpose(form.fields["purpose"])
        async with context.sessions.begin() as session:
            await check_stored_bytes(session, caller, 0, context.settings.quotas)
            await reserve(session, id, context.settings.upload_seconds)
        return await in_thread(Content, store_of(context), path_of(id, form.filename or ""))

    content = await receive(request, form, context.settings.max_file_bytes, start, "file")
    try:
        purpose, kept = of_form(form.fields)
    except BaseException:
        await asyncio.shield(in_thread(content.discard))
        raise
    await keep(content, purpose, "file")
    try:
        async with context.sessions.begin() as session:
            row = await add_file(
                session, context, caller, content, id=id, filename=form.filename or "", purpose=purpose, kept=kept
            )
    except BaseException:
        await asyncio.shield(in_thread(content.discard))
        raise
    return file_object(row)


@router.get("/files")
async def list_files(
    caller: CallerOf,
    context: ContextOf,
    purpose: str | None = None,
    limit: int = MOST_LISTED,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> dict[str, Any]:
    """List the project's files."""
    check_limit(limit, MOST_LISTED)
    where = [shown(context.now())] + ([] if purpose is None else [File.purpose == purpose])
    async with context.sessions() as session:
        scope = [File.project_id == caller.project_id]
        rows = await find_rows(session, File, scope=scope, where=where, limit=limit, after=after, order=order)
    return page(rows, limit, file_object)


@router.get("/files/{file_id}")
async def retrieve_file(
    file_id: str,
    caller: CallerOf,
    context: ContextOf,
) -> dict[str, Any]:
    """Return a file's description."""
    async with context.sessions() as session:
        return file_object(await find_file(session, caller.project_id, file_id, context.now()))


@router.delete("/files/{file_id}")
async def remove_file(
    file_id: str,
    caller: CallerOf,
    context: ContextOf,
) -> dict[str, Any]:
    """Delete a file."""
    async with context.sessions.begin() as session:
        await delete_file(session, context, caller, file_id)
    context.wake_reconciler()
    return {"id": file_id, "object": "file", "deleted": True}


@router.get("/files/{file_id}/content", response_class=StreamingResponse)
async def file_content(
    file_id: str,
    caller: CallerOf,
    context: ContextOf,
) -> StreamingResponse:
    """Return a file's content."""
    async with context.sessions() as session:
        row = await find_file(session, caller.project_id, file_id, context.now())
    pieces = _pieces(store_of(context), row.path)
    first = await anext(pieces)  # a content that is gone is an error, not an answer that breaks off
    headers = {
        "content-length": str(row.bytes),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(row.filename, safe='')}",
    }
    return StreamingResponse(_with_first(first, pieces), media_type="application/octet-stream", headers=headers)


async def _pieces(store: Store, path: str) -> AsyncIterator[bytes]:
    source = store.reader(path)
    file = await in_thread(source.__enter__)
    try:
        while data := await in_thread(file.read, CHUNK):
            yield data
    finally:
        await asyncio.shield(in_thread(file.close))


async def _with_first(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece
