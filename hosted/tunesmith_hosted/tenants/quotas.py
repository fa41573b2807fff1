"""Limits of projects on what they keep and run. A project's own row is before the settings of all."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.config.settings import Quotas
from tunesmith_hosted.database.tables import File, Project, Upload, UploadPart, Usage
from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.http.errors import ApiError
from tunesmith_hosted.tenants.usage import SECONDS_A_DAY


async def quotas_of(session: AsyncSession, project_id: str, defaults: Quotas) -> Quotas:
    """Return the limits of a project.

    Args:
        session: A session of the database.
        project_id: The project.
        defaults: `Settings.quotas`, for what its row does not say.
    """
    own = (await session.execute(select(Project.quotas).where(Project.id == project_id))).scalar_one_or_none()
    return defaults.model_copy(update=own) if own else defaults


async def jobs_at_once(session: AsyncSession, project_id: str, defaults: Quotas) -> int | None:
    """Return how many jobs of a project may run at the same time, None without limit. The others wait, queued."""
    return (await quotas_of(session, project_id, defaults)).jobs_at_once


async def check_gpu_hours(session: AsyncSession, project_id: str, defaults: Quotas) -> None:
    """Refuse a job with GPUs of a project that has used up its month.

    Raises:
        ApiError: It has.
    """
    most = (await quotas_of(session, project_id, defaults)).gpu_hours_a_month
    if most is not None and not await has_gpu_hours(session, project_id, defaults):
        message = (
            f"This project has used the {most:g} GPU hours that it may use in a month; create the job again next "
            "month (UTC), or ask an administrator for a larger quota"
        )
        raise ApiError(403, message, code="gpu_hours_exceeded")


async def has_gpu_hours(session: AsyncSession, project_id: str, defaults: Quotas) -> bool:
    """Return whether a project may use GPUs: its jobs have used less this month (UTC) than it may."""
    most = (await quotas_of(session, project_id, defaults)).gpu_hours_a_month
    if most is None:
        return True
    first = int(datetime.now(UTC).replace(day=1).timestamp()) // SECONDS_A_DAY
    used = select(func.coalesce(func.sum(Usage.gpu_seconds), 0.0)).where(
        Usage.project_id == project_id, Usage.day >= first
    )
    return float((await session.execute(used)).scalar_one()) < 3600 * most


async def stored_bytes(session: AsyncSession, project_id: str) -> int:
    """Return the bytes of a project's files, and of the parts of uploads that are not complete."""
    files = select(func.coalesce(func.sum(File.bytes), 0)).where(
        File.project_id == project_id, File.deleted_at.is_(None)
    )
    parts = (
        select(func.coalesce(func.sum(UploadPart.bytes), 0))
        .join(Upload, UploadPart.upload_id == Upload.id)
        .where(Upload.project_id == project_id, Upload.status == "pending")
    )
    return int((await session.execute(files)).scalar_one()) + int((await session.execute(parts)).scalar_one())


async def check_stored_bytes(session: AsyncSession, caller: Caller, more: int, defaults: Quotas) -> None:
    """Refuse bytes that a project has no room for. Takes the project's row, so that two uploads cannot both fit.

    Args:
        session: The session of the transaction that adds them.
        caller: Whose project it is.
        more: Bytes to add.
        defaults: `Settings.quotas`.

    Raises:
        ApiError: They do not fit.
    """
    await session.execute(select(Project.id).where(Project.id == caller.project_id).with_for_update())
    most = (await quotas_of(session, caller.project_id, defaults)).stored_bytes
    if most is None:
        return
    stored = await stored_bytes(session, caller.project_id)
    if stored + more > most:
        message = (
            f"This project keeps {stored} bytes and may keep {most}, so {more} more do not fit; "
            "delete files that are no longer used, or ask an administrator for a larger quota"
        )
        raise ApiError(403, message, code="storage_limit_exceeded")
