"""Validates the files of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunesmith_hosted.database.tables import File
from tunesmith_hosted.files.store import ContentGoneError, store_of
from tunesmith_hosted.files.threads import in_thread
from tunesmith_hosted.fine_tuning.rows.check import Checked, Method, check_file
from tunesmith_hosted.http.context import Context


@dataclass(frozen=True)
class Validated:
    """What became of it.

    Attributes:
        rows: Rows of the training file.
        error: What is wrong, as a job's `error`; empty if nothing is.
    """

    rows: int
    error: dict[str, Any]


async def validate_files(context: Context, method: Method, training: File, validation: File | None) -> Validated:
    """Check the rows of a job's files.

    Raises:
        ApiError: The store does not answer.
    """
    rows = 0
    for name, file, least in (("training", training, context.settings.min_examples), ("validation", validation, 1)):
        if file is None:
            continue
        if file.deleted_at is not None:
            return Validated(0, _error(name, f"{file.id} was deleted. Upload it again and create a new job."))
        checked = await in_thread(_check, context, file, method, least)
        if checked.errors:
            return Validated(0, _error(name, checked.message))
        rows = rows or checked.rows
    return Validated(rows, {})


def _check(context: Context, file: File, method: Method, least: int) -> Checked:
    try:
        with store_of(context).reader(file.path) as content:
            return check_file(content, method, least)
    except ContentGoneError as error:
        return Checked(0, (f"{error}.",), 1)


def _error(name: str, message: str) -> dict[str, Any]:
    text = f"The job failed due to an invalid {name} file. {message}"
    return {"code": f"invalid_{name}_file", "message": text, "param": f"{name}_file"}
