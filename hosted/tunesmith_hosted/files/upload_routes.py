"""`/v1/uploads`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from tunesmith_hosted.database.ids import new_id
from tunesmith_hosted.database.tables import Upload, UploadPart
from tunesmith_hosted.files.content import Content
from tunesmith_hosted.files.multipart import Form, receive
from tunesmith_hosted.files.purposes import check_purpose, seconds_kept
from tunesmith_hosted.files.reservations import path_of, reserve, settle
from tunesmith_hosted.files.store import store_of
from tunesmith_hosted.files.threads import in_thread
from tunesmith_hosted.files.uploads import cancel, check_pending, complete, find_upload
from tunesmith_hosted.http.caller import Caller, allowed
from tunesmith_hosted.http.context import ContextOf
from tunesmith_hosted.http.errors import ApiError
from tunesmith_hosted.tenants.audit import add_audit
from tunesmith_hosted.tenants.quotas import check_stored_bytes
from tunesmith_hosted.wire.files import part_object, upload_object

router = APIRouter(prefix="/v1")

CallerOf = Annotated[Caller, Depends(allowed("files"))]

MOST_PART_BYTES = 64 << 20

_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


class ExpiresAfter(BaseModel):
    """When the file of an upload expires."""

    anchor: str
    seconds: int


class UploadRequest(BaseModel):
    """The body of `POST /v1/uploads`."""

    bytes: Annotated[int, Field(gt=0)]
    filename: Annotated[str, Field(min_length=1, max_length=255)]
    mime_type: Annotated[str, Field(min_length=1, max_length=255)]
    purpose: str
    expires_after: ExpiresAfter | None = None


class CompleteRequest(BaseModel):
    """The body of `POST /v1/uploads/ID/complete`."""

    part_ids: Annotated[list[str], Field(min_length=1, max_length=10_000)]
    md5: Annotated[str | None, Field(max_length=64)] = None


@router.post("/uploads")
async def create_upload(
    body: UploadRequest,
    caller: CallerOf,
    context: ContextOf,
) -> dict[str, Any]:
    """Announce a file that arrives in parts."""
    purpose = check_purpose(body.purpose)
    if body.bytes > (most := context.settings.max_file_bytes):
        raise ApiError(413, f"A file may have at most {most} bytes", param="bytes", code="file_too_large")
    after = body.expires_after
    kept = seconds_kept(purpose, after and after.anchor, after and after.seconds)
    now = int(context.now())
    row = Upload(
        id=new_id("upload"),
        project_id=caller.project_id,
        filename=body.filename,
        purpose=purpose,
        mime_type=body.mime_type,
        bytes=body.bytes,
        status="pending",
        file_id=None,
        file_expires_after=kept,
        created_at=now,
        expires_at=now + context.settings.upload_seconds,
    )
    async with context.sessions.begin() as session:
        await check_stored_bytes(session, caller, body.bytes, context.settings.quotas)
        session.add(row)
        await reserve(session, row.id, context.settings.upload_seconds)
        add_audit(session, caller, "upload.created", row.id)
    return upload_object(row)


@router.post("/uploads/{upload_id}/parts", openapi_extra=_FORM)
async def create_part(
    upload_id: str,
    request: Request,
    caller: CallerOf,
    context: ContextOf,
) -> dict[str, Any]:
    """Store a part of an upload. Parts may arrive in any order and at the same time."""
    form = Form(request.headers.get("content-type", ""), "data")
    id = new_id("part")

    async def start(form: Form) -> Content:
        async with context.sessions.begin() as session:
            check_pending(await find_upload(session, caller, upload_id), context.now())
            await reserve(session, id, context.settings.upload_seconds)
        return await in_thread(Content, store_of(context), path_of(id))

    async with context.sessions() as session:
        most = min(MOST_PART_BYTES, (await find_upload(session, caller, upload_id)).bytes)
    content = await receive(request, form, most, start, "data")
    try:
        await in_thread(content.commit)
        async with context.sessions.begin() as session:
            check_pending(await find_upload(session, caller, upload_id, lock=True), context.now())
            await check_stored_bytes(session, caller, content.size, context.settings.quotas)
            row = UploadPart(
                id=id,
                upload_id=upload_id,
                bytes=content.size,
                md5=content.md5,
                path=content.path,
                created_at=int(context.now()),
            )
            session.add(row)
            await settle(session, id)
    except BaseException:
        await asyncio.shield(in_thread(content.discard))
        raise
    return part_object(row)


@router.post("/uploads/{upload_id}/complete")
async def complete_upload(
    upload_id: str,
    body: CompleteRequest,
    caller: CallerOf,
    context: ContextOf,
) -> dict[str, Any]:
    """Make the file."""
    return upload_object(*await complete(context, caller, upload_id, body.part_ids, body.md5))


@router.post("/uploads/{upload_id}/cancel")
async def cancel_upload(
    upload_id: str,
    caller: CallerOf,
    context: ContextOf,
) -> dict[str, Any]:
    """Take no more parts, and forget those that have come."""
    return upload_object(await cancel(context, caller, upload_id))
