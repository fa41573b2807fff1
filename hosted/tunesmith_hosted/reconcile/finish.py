"""What a job leaves behind: its model, its checkpoints and its results file, under names that follow from its id."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.database.tables import Checkpoint, File, Job, JobEvent, TunedModel
from tunesmith_hosted.files.reservations import path_of, reserve, settle
from tunesmith_hosted.files.store import store_of
from tunesmith_hosted.files.threads import in_thread
from tunesmith_hosted.fine_tuning.events import Event
from tunesmith_hosted.fine_tuning.names import checkpoint_name, derived_id, model_name
from tunesmith_hosted.fine_tuning.results import Step, as_csv, read_steps, steps_of_events
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.reconcile.gpu_hours import Held, counted, gpus_of
from tunesmith_hosted.tenants.usage import add_usage

_RESERVED_SECONDS = 3600


@dataclass(frozen=True)
class Kept:
    """A checkpoint that can be asked.

    Attributes:
        step: Its step.
        artifact: URI of its artifact; None for that of the job.
        accuracy: Share of the validation tokens that it predicts, if that was measured.
    """

    step: Step
    artifact: str | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class Finish:
    """The results of a job.

    Attributes:
        file_id: Id of its results file, whose content the store has.
        bytes: Size of the content.
        sha256: Its digest.
        artifact: URI of the artifact.
        checkpoints: Its checkpoints, that of the model last.
        tokens: Tokens that were trained on.
        gpu_seconds: Seconds that the job ran, times its GPUs, unless they were counted while it did.
    """

    file_id: str
    bytes: int
    sha256: str
    artifact: str
    checkpoints: tuple[Kept, ...]
    tokens: int | None
    gpu_seconds: float


async def read_results(context: Context, job: Job, status: dict[str, Any], held: Held) -> Finish:
    """Write the content of the results file, and return the results.

    Args:
        context: The service.
        job: The job.
        status: The status of its FineTuneJob.
        held: What it has held of GPUs.

    Raises:
        OSError: The artifact cannot be read.
        ApiError: The store does not take the file.
    """
    artifact = str(status["artifact"]["uri"])
    steps = await asyncio.to_thread(read_steps, artifact)
    if not steps:
        async with context.sessions() as session:
            query = select(JobEvent.data).where(JobEvent.job_id == job.id, JobEvent.type == "metrics")
            steps = steps_of_events((await session.execute(query.order_by(JobEvent.number))).scalars())
    content = as_csv(steps)
    file_id = derived_id("file-", job.id, "results")
    async with context.sessions.begin() as session:
        if await session.get(File, file_id) is None:
            await reserve(session, file_id, _RESERVED_SECONDS)
    await in_thread(_write, context, path_of(file_id), content)
    progress = status.get("progress") or {}
    last = steps[-1] if steps else Step(int(progress.get("step") or 0), progress.get("loss"))
    return Finish(
        file_id=file_id,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        artifact=artifact,
        checkpoints=_kept(status, steps, last),
        tokens=last.tokens,
        gpu_seconds=0.0 if counted(held.noted) else _gpu_seconds(job.manifest["spec"], status),
    )


def _kept(status: dict[str, Any], steps: Sequence[Step], last: Step) -> tuple[Kept, ...]:
    """Return the checkpoints of a job that has succeeded."""
    artifact: dict[str, Any] = status["artifact"]
    by_number = {step.step: step for step in steps}
    # It may have published an earlier step than the last, the one that was best on the validation rows.
    number = artifact.get("step") or last.step
    own = last if number == last.step else by_number.get(number, Step(number))
    accuracy = ((status.get("metrics") or {}).get("after") or {}).get("tokenAccuracy")
    before = (
        Kept(by_number.get(item["step"], Step(item["step"])), str(item["uri"]))
        for item in artifact.get("checkpoints") or []
    )
    return (*before, Kept(own, None, accuracy))


async def write_success(session: AsyncSession, job: Job, organization: str, finish: Finish, now: float) -> list[Event]:
    """Add the rows of what a job has made, in the transaction that ends it, and return what to tell of it."""
    name = model_name(job.base, organization, job.suffix, job.id)
    at = int(now)
    session.add(
        File(
            id=finish.file_id,
            project_id=job.project_id,
            filename="step_metrics.csv",
            purpose="fine-tune-results",
            bytes=finish.bytes,
            sha256=finish.sha256,
            path=path_of(finish.file_id),
            status="processed",
            created_at=at,
        )
    )
    await settle(session, finish.file_id)
    session.add(
        TunedModel(
            id=name,
            project_id=job.project_id,
            job_id=job.id,
            base=job.base,
            artifact=finish.artifact,
            workspace=job.object_name,
            wanted="asleep",
            created_at=at,
        )
    )
    for kept in finish.checkpoints:
        step = kept.step.step
        session.add(
            Checkpoint(
                id=derived_id("ftckpt_", job.id, str(step)),
                job_id=job.id,
                step=step,
                model=checkpoint_name(name, step),
                artifact=kept.artifact,
                metrics=_metrics(kept),
                created_at=at,
            )
        )
    await add_usage(
        session, job.project_id, job.base, trained_tokens=finish.tokens or 0, gpu_seconds=finish.gpu_seconds
    )
    job.fine_tuned_model, job.result_files, job.trained_tokens = name, [finish.file_id], finish.tokens
    return [
        *(Event(f"Checkpoint created at step {kept.step.step}") for kept in finish.checkpoints),
        Event(f"New fine-tuned model created: {name}"),
        Event("The job has successfully completed"),
    ]


def _metrics(kept: Kept) -> dict[str, Any]:
    """Return the metrics of a checkpoint; the loss on all validation rows was measured after its step."""
    step = kept.step
    found = {
        "step": step.step,
        "train_loss": step.train_loss,
        "train_mean_token_accuracy": step.train_accuracy,
        "valid_loss": step.valid_loss,
        "valid_mean_token_accuracy": step.valid_accuracy,
        "full_valid_loss": step.valid_loss,
        "full_valid_mean_token_accuracy": kept.accuracy,
    }
    return {name: value for name, value in found.items() if value is not None}


def _gpu_seconds(spec: dict[str, Any], status: dict[str, Any]) -> float:
    start, end = (status.get(name) for name in ("startTime", "completionTime"))
    if not start or not end:
        return 0.0
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    return max(0.0, seconds - float(status.get("pausedSeconds") or 0)) * gpus_of(spec)


def _write(context: Context, path: str, content: bytes) -> None:
    writer = store_of(context).writer(path)
    writer.write(content)
    writer.commit()
