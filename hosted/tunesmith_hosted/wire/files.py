"""Files and uploads as OpenAI's clients read them."""

from __future__ import annotations

from typing import Any

from tunesmith_hosted.database.tables import File, Upload, UploadPart


def file_object(row: File) -> dict[str, Any]:
    """Return a file."""
    return {
        "id": row.id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "filename": row.filename,
        "purpose": row.purpose,
        "status": row.status,
        "status_details": row.status_details,
    }


def upload_object(row: Upload, file: File | None = None) -> dict[str, Any]:
    """Return an upload, with its file if it is complete."""
    return {
        "id": row.id,
        "object": "upload",
        "bytes": row.bytes,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "filename": row.filename,
        "purpose": row.purpose,
        "status": row.status,
        "file": None if file is None else file_object(file),
    }


def part_object(row: UploadPart) -> dict[str, Any]:
    """Return a part of an upload."""
    return {"id": row.id, "object": "upload.part", "created_at": row.created_at, "upload_id": row.upload_id}
