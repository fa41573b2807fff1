"""Models that a caller may use: bases, the project's own models and checkpoints, and checkpoints shared with it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.config.bases import BaseModelSettings
from tunesmith_hosted.config.settings import Settings
from tunesmith_hosted.database.tables import Checkpoint, CheckpointPermission, Job, Project, TunedModel
from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.models.names import checkpoint_workspace


@dataclass(frozen=True)
class Found:
    """A model that a caller may use.

    Attributes:
        name: Its public name; of a base not an alias.
        created: Unix seconds.
        base: The base model, if it is one.
        model: Its row; None for a base, and for a checkpoint that was never asked.
        checkpoint: Its checkpoint, if it is one that was never asked.
        own: Whether it belongs to the caller's project.
    """

    name: str
    created: int
    base: BaseModelSettings | None = None
    model: TunedModel | None = None
    checkpoint: Checkpoint | None = None
    own: bool = False


def _may_use_checkpoint(caller: Caller) -> ColumnElement[bool]:
    """Return the condition of checkpoints, joined with their jobs and those with their projects."""
    shared = exists().where(
        CheckpointPermission.checkpoint_id == Checkpoint.id, CheckpointPermission.project_id == caller.project_id
    )
    # A permission never reaches beyond the organisation, whatever the table says.
    return or_(Job.project_id == caller.project_id, shared & (Project.organization_id == caller.organization_id))


def _may_use_model(caller: Caller) -> ColumnElement[bool]:
    shared = (
        exists()
        .where(Checkpoint.model == TunedModel.id, CheckpointPermission.checkpoint_id == Checkpoint.id)
        .where(CheckpointPermission.project_id == caller.project_id)
        .where(Project.id == TunedModel.project_id, Project.organization_id == caller.organization_id)
    )
    return or_(TunedModel.project_id == caller.project_id, shared)


async def find_model(session: AsyncSession, settings: Settings, caller: Caller, name: str) -> Found | None:
    """Return a model by its name; None if there is none that the caller may use."""
    if base := settings.base(name):
        return Found(base.name, base.created, base=base)
    model = await session.get(TunedModel, name)
    if model is not None:
        allowed = select(TunedModel.id).where(TunedModel.id == name, _may_use_model(caller))
        if model.deleted_at is not None or (await session.execute(allowed)).first() is None:
            return None
        return Found(name, model.created_at, model=model, own=model.project_id == caller.project_id)
    query = (
        select(Checkpoint, Job.project_id)
        .join(Job, Checkpoint.job_id == Job.id)
        .join(Project, Job.project_id == Project.id)
        .where(Checkpoint.model == name, _may_use_checkpoint(caller))
    )
    found = (await session.execute(query)).one_or_none()
    if found is None:
        return None
    checkpoint, project_id = found
    return Found(name, checkpoint.created_at, checkpoint=checkpoint, own=project_id == caller.project_id)


async def list_models(session: AsyncSession, settings: Settings, caller: Caller) -> list[Found]:
    """Return all models that the caller may use: bases first, then the newest."""
    bases = [Found(base.name, base.created, base=base) for base in settings.bases]
    rows = (await session.execute(select(TunedModel).where(_may_use_model(caller)))).scalars().all()
    query = (
        select(Checkpoint, Job.project_id)
        .join(Job, Checkpoint.job_id == Job.id)
        .join(Project, Job.project_id == Project.id)
        .where(_may_use_checkpoint(caller), ~exists().where(TunedModel.id == Checkpoint.model))
    )
    tuned = [
        Found(row.id, row.created_at, model=row, own=row.project_id == caller.project_id)
        for row in rows
        if row.deleted_at is None
    ]
    tuned += [
        Found(row.model, row.created_at, checkpoint=row, own=project_id == caller.project_id)
        for row, project_id in await session.execute(query)
    ]
    return bases + sorted(tuned, key=lambda found: (-found.created, found.name))


async def model_row(session: AsyncSession, found: Found) -> TunedModel:
    """Return the row of a fine-tuned model, in this transaction; that of a checkpoint is made if it has none.

    The reconciler fills in what a checkpoint's servers load.
    """
    if found.model is not None:
        return found.model
    checkpoint = found.checkpoint
    assert checkpoint is not None, "a base has no such row"  # noqa: S101
    job = await session.get_one(Job, checkpoint.job_id, with_for_update=True)
    row = await session.get(TunedModel, found.name, populate_existing=True)
    if row is None:
        row = TunedModel(
            id=found.name,
            project_id=job.project_id,
            job_id=job.id,
            base=job.base,
            step=checkpoint.step,
            artifact=checkpoint.artifact or "",
            workspace=checkpoint_workspace(job.object_name, checkpoint.step),
            wanted="asleep",
            created_at=checkpoint.created_at,
        )
        session.add(row)
        await session.flush()
    return row


async def model_artifact(session: AsyncSession, job_id: str) -> str:
    """Return the artifact of a job's model, which is that of its last checkpoint, too."""
    query = select(TunedModel.artifact).where(TunedModel.job_id == job_id, TunedModel.step.is_(None))
    return str((await session.execute(query)).scalar_one())
