"""What a job starts from: a base model, or a fine-tuned model of its project."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.config.bases import BaseModelSettings
from tunesmith_hosted.config.settings import Settings
from tunesmith_hosted.database.tables import Checkpoint, Job
from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.http.errors import ApiError, model_not_found
from tunesmith_hosted.models.finding import find_model, model_artifact, model_row


@dataclass(frozen=True)
class Start:
    """What a job starts from.

    Attributes:
        base: The base model, whose settings the job gets.
        weights: URI of the weights; None for the base model's own.
    """

    base: BaseModelSettings
    weights: str | None = None


def weights_of(artifact: str) -> str:
    """Return the URI of the merged weights in an artifact (export.mergeWeights), from which jobs can start."""
    return f"{artifact.rstrip('/')}/model"


async def find_start(session: AsyncSession, settings: Settings, caller: Caller, name: str) -> Start:
    """Return what a job with this `model` starts from. A tuned model is locked until the transaction ends.

    Raises:
        ApiError: There is no such model that the project may fine-tune.
    """
    found = await find_model(session, settings, caller, name)
    if found is None:
        raise model_not_found(name)
    if found.base is not None:
        return Start(found.base)
    if not found.own:
        raise _refused(f"{name} belongs to another project, which shares it to be asked; name a model of your own")
    row = await model_row(session, found)
    await session.refresh(row, with_for_update=True)
    if row.deleted_at is not None:
        raise model_not_found(name)
    job = await session.get_one(Job, row.job_id)
    base = settings.base(job.base)
    if base is None:
        raise _refused(f"The base model {job.base} of {name} is no longer offered; choose another of GET /v1/models")
    query = select(Checkpoint.artifact).where(Checkpoint.model == name)
    if (await session.execute(query)).scalar_one_or_none() is not None:
        raise _refused(f"{name} is a checkpoint before the last; name the model itself, {job.fine_tuned_model}")
    if not job.manifest.get("spec", {}).get("export", {}).get("mergeWeights"):
        raise _refused(f"The weights of {name} were not kept, so it cannot be fine-tuned further; name {base.name}")
    return Start(base, weights_of(row.artifact or await model_artifact(session, job.id)))


def _refused(message: str) -> ApiError:
    return ApiError(400, message, param="model", code="model_not_available")
