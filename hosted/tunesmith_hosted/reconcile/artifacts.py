"""Removes the artifacts of deleted models, as soon as nothing needs them any more."""

from __future__ import annotations

import asyncio

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_backend.interface.protocol import ObjectRef
from tunesmith_hosted.database.tables import Checkpoint, Job, TunedModel
from tunesmith_hosted.files.filesystems import open_filesystem
from tunesmith_hosted.fine_tuning.events import FINISHED
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.models.finding import model_artifact
from tunesmith_hosted.models.starting import weights_of
from tunesmith_hosted.reconcile.backend import Objects, look_seconds


async def remove_artifact(context: Context, objects: Objects, model: str, job: ObjectRef) -> float | None:
    """Remove the files of a deleted model, and its job if no model of it is left.

    Models and checkpoints that can be asked keep theirs, and jobs that have not ended keep those that they start from.

    Args:
        context: The service.
        objects: The backend's objects.
        model: The model's name.
        job: The FineTuneJob that made it.

    Returns:
        After how many seconds to look again; None if not.
    """
    async with context.sessions() as session:
        row = await session.get_one(TunedModel, model)
        of_job = await model_artifact(session, row.job_id)
        asked, started = await _in_use(session, row.job_id, of_job)
        own = row.artifact or of_job
    if not asked and not started:
        # On one machine the artifacts are in the job's folder, and go with it.
        await objects.delete(job)
    prefix = f"{context.settings.files.rstrip('/')}/artifacts/"
    if "://" in prefix and own.startswith(prefix) and own not in asked | started:
        await asyncio.to_thread(_remove_folder, own)
    return look_seconds(context) if started else None


async def _in_use(session: AsyncSession, job_id: str, own: str) -> tuple[set[str], set[str]]:
    """Return which artifacts of a job can be asked, and which unfinished jobs start from; `own` is its model's."""
    rows = (await session.execute(select(TunedModel).where(TunedModel.job_id == job_id))).scalars().all()
    asked = {row.artifact or own for row in rows if row.wanted != "deleted"}
    never_asked = select(Checkpoint).where(
        Checkpoint.job_id == job_id, Checkpoint.model.not_in([row.id for row in rows])
    )
    asked |= {checkpoint.artifact or own for checkpoint in (await session.execute(never_asked)).scalars()}
    by_weights = {weights_of(artifact): artifact for artifact in (*(row.artifact for row in rows), own) if artifact}
    starts = select(Job.start).where(Job.start.in_(by_weights), Job.status.not_in(FINISHED))
    return asked, {by_weights[start] for start in (await session.execute(starts)).scalars() if start}


def _remove_folder(uri: str) -> None:
    files, root = open_filesystem(uri)
    if files.exists(root):
        files.rm(root, recursive=True)
