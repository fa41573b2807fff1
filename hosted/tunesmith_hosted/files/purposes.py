"""What files are for, and when they expire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith_hosted.http.errors import ApiError

PURPOSES = ("fine-tune", "assistants", "batch", "evals", "user_data", "vision")
_OWN = ("fine-tune-results", "assistants_output", "batch_output")
_LEAST_SECONDS, _MOST_SECONDS = 3600, 2_592_000
_BATCH_SECONDS = 2_592_000


def check_purpose(purpose: object) -> str:
    """Return a purpose that a client may give.

    Raises:
        ApiError: It is missing or unknown, or of files that the service makes.
    """
    known = ", ".join(PURPOSES)
    if purpose is None:
        raise ApiError(400, f"Give purpose: {known}", param="purpose", code="missing_required_parameter")
    if purpose in _OWN:
        message = f"Files of the purpose {purpose} are made by the service; upload one of: {known}"
        raise ApiError(400, message, param="purpose", code="invalid_value")
    if purpose not in PURPOSES:
        raise ApiError(400, f"purpose must be one of {known}, not {purpose}", param="purpose", code="invalid_value")
    return str(purpose)


def seconds_kept(purpose: str, anchor: object, seconds: Any) -> int | None:  # noqa: ANN401
    """Return after how many seconds a file expires, None if never.

    Args:
        purpose: Its purpose; files of batches expire after 30 days.
        anchor: `expires_after.anchor`.
        seconds: `expires_after.seconds`, as it was given.

    Raises:
        ApiError: They are wrong.
    """
    if anchor is None and seconds is None:
        return _BATCH_SECONDS if purpose == "batch" else None
    if anchor != "created_at":
        message = "expires_after.anchor must be created_at"
        raise ApiError(400, message, param="expires_after.anchor", code="invalid_value")
    try:
        kept = int(str(seconds))
    except ValueError:
        kept = 0
    if not _LEAST_SECONDS <= kept <= _MOST_SECONDS:
        message = f"expires_after.seconds must be a whole number from {_LEAST_SECONDS} to {_MOST_SECONDS}"
        raise ApiError(400, message, param="expires_after.seconds", code="invalid_value")
    return kept


def of_form(fields: Mapping[str, str]) -> tuple[str, int | None]:
    """Return the purpose of a form's file, and after how many seconds it expires.

    Raises:
        ApiError: A field is wrong.
    """
    purpose = check_purpose(fields.get("purpose"))
    kept = seconds_kept(purpose, fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]"))
    return purpose, kept
