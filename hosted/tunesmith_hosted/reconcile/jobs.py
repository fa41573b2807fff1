"""Makes the FineTuneJob of a job what its row says, and writes back what became of it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_backend.interface.protocol import ObjectRef
from tunesmith_hosted.database.tables import File, Job, Organization, Project
from tunesmith_hosted.files.store import StoreError, open_local
from tunesmith_hosted.fine_tuning.access import with_access
from tunesmith_hosted.fine_tuning.events import FINISHED, Event, add_events
from tunesmith_hosted.fine_tuning.manifest import job_manifest
from tunesmith_hosted.fine_tuning.method import with_hyperparameters
from tunesmith_hosted.fine_tuning.validate import Validated, validate_files
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.reconcile.backend import Object, Objects, look_seconds
from tunesmith_hosted.reconcile.decide import Decision, JobFacts, decide
from tunesmith_hosted.reconcile.finish import Finish, read_results, write_success
from tunesmith_hosted.reconcile.gpu_hours import Held, held
from tunesmith_hosted.tenants.quotas import has_gpu_hours
from tunesmith_hosted.tenants.usage import add_usage


@dataclass(frozen=True)
class _Subject:
    """A job with what it belongs to."""

    job: Job
    organization: str
    namespace: str
    training: File
    validation: File | None

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef("FineTuneJob", self.job.object_name, self.namespace)

    @property
    def facts(self) -> JobFacts:
        job = self.job
        return JobFacts(job.status, job.wanted, job.place_at is not None, job.observed)


async def look_at_job(context: Context, objects: Objects, id: str) -> float | None:
    """Do what is to be done about a job, and return after how many seconds to look again; None if not.

    Whatever is written outside the database follows from the row, so doing it again changes nothing; whatever is noted
    in the database is noted in one transaction, and only if the row is still what was decided about.
    """
    subject = await _load(context, id)
    if subject is None:
        return None
    found = await objects.find(subject.ref)
    decision = decide(subject.facts, found, objects.is_applied(subject.ref, subject.job.manifest))
    if decision.act == "validate":
        return await _validate(context, subject)
    try:
        await _act(objects, subject, decision)
    except BackendError as error:
        if error.kind is not ErrorKind.INVALID:
            raise
        message = f"The job was refused: {error}"
        refused = {"code": "invalid_settings", "message": message, "param": None}
        event = Event(f"Fine-tuning job failed: {message}", level="error")
        decision = Decision("none", "failed", keeps_place=False, events=(event,), error=refused)
    finish = None
    counting = held(subject.job.observed, subject.job.manifest.get("spec", {}), found, context.now())
    if decision.status == "succeeded" and subject.job.status != "succeeded":
        assert found is not None  # noqa: S101 - what succeeds is there
        finish = await read_results(context, subject.job, found["status"], counting)
    if not await _note(context, subject, decision, counting, finish):
        return 0
    if decision.act == "apply":
        # Of an object that was applied as it was, no watch tells; what it says has not been looked at yet.
        return context.settings.reconcile_seconds
    return look_seconds(context) if decision.again else None


async def _load(context: Context, id: str) -> _Subject | None:
    async with context.sessions() as session:
        query = (
            select(Job, Organization.name, Project.namespace)
            .join(Project, Job.project_id == Project.id)
            .join(Organization, Project.organization_id == Organization.id)
            .where(Job.id == id)
        )
        found = (await session.execute(query)).one_or_none()
        if found is None:
            return None
        job, organization, namespace = found
        training = await session.get_one(File, job.training_file)
        validation = None if job.validation_file is None else await session.get_one(File, job.validation_file)
        return _Subject(job, organization, namespace, training, validation)


async def _act(objects: Objects, subject: _Subject, decision: Decision) -> None:
    """Do it to the FineTuneJob."""
    if decision.act == "apply":
        await objects.apply(subject.ref, subject.job.manifest)
    elif decision.act == "delete":
        await objects.delete(subject.ref)
    elif decision.act != "none":
        await objects.suspend(subject.ref, decision.act == "suspend")


async def _note(context: Context, subject: _Subject, decision: Decision, counting: Held, finish: Finish | None) -> bool:
    """Write back what was decided; return False if the row is another one meanwhile, so that nothing was written."""
    now = context.now()
    async with context.sessions.begin() as session:
        job = await session.get_one(Job, subject.job.id, with_for_update=True)
        if _Subject(job, subject.organization, subject.namespace, subject.training, None).facts != subject.facts:
            return False
        ends = decision.status in ("succeeded", "failed") and job.status != decision.status
        rest = {key: value for key, value in decision.observed.items() if not key.startswith("gpu")}
        job.status, job.observed = decision.status, {**rest, **counting.noted}
        job.estimated_finish = None if decision.eta is None else int(now + decision.eta)
        if not decision.keeps_place:
            job.place_at = None
        if ends:
            job.finished_at, job.error = int(now), decision.error
        events = list(decision.events)
        if finish is not None and ends:
            events += await write_success(session, job, subject.organization, finish, now)
        if counting.seconds:
            events += await _count(session, context, job, counting, decision)
        await add_events(session, job.id, events, now)
    if not decision.keeps_place:
        context.wake_reconciler()
    return True


async def _count(session: AsyncSession, context: Context, job: Job, counting: Held, decision: Decision) -> list[Event]:
    """Add what a job has held of GPUs to its project's usage, and pause it if that was the last of its month."""
    await add_usage(session, job.project_id, job.base, gpu_seconds=counting.seconds)
    goes_on = decision.keeps_place and job.wanted == "run" and job.status not in FINISHED
    if not goes_on or await has_gpu_hours(session, job.project_id, context.settings.quotas):
        return []
    job.wanted, job.status, job.estimated_finish = "pause", "pausing", None
    message = (
        "The project has used its GPU hours of this month: the job is paused. Once it is resumed, it goes on from "
        "its last checkpoint as soon as there are hours again"
    )
    return [Event(message, level="warn")]


async def _validate(context: Context, subject: _Subject) -> float | None:
    """Validate the files, and write down the FineTuneJob if they are valid."""
    job = subject.job
    base = context.settings.base(job.base)
    manifest: Object = {}
    chosen: Object = {}
    if base is None:
        message = f"The base model {job.base} is no longer offered; choose another of GET /v1/models"
        checked = Validated(0, {"code": "model_not_available", "message": message, "param": "model"})
    else:
        checked = await validate_files(context, job.method["type"], subject.training, subject.validation)
    if base is not None and not checked.error:
        try:
            sources = {"training": _source(context, subject.training)}
            if subject.validation is not None:
                sources["validation"] = _source(context, subject.validation)
        except StoreError as error:
            checked = Validated(0, {"code": "invalid_settings", "message": str(error), "param": None})
        else:
            output = _output(context, job)
            manifest, chosen = job_manifest(job, base, subject.namespace, sources, checked.rows, output)
            manifest = with_access(manifest, context.settings)
    now = context.now()
    async with context.sessions.begin() as session:
        row = await session.get_one(Job, job.id, with_for_update=True)
        if row.status != "validating_files":
            return 0
        if checked.error:
            row.status, row.error, row.finished_at = "failed", checked.error, int(now)
            events = [Event(str(checked.error["message"]), level="error")]
        else:
            row.status, row.manifest = "queued", manifest
            row.method = with_hyperparameters(row.method, chosen)
            events = [Event("Files validated, moving job to queued state")]
        await add_events(session, row.id, events, now)
    context.wake_reconciler()
    return None


def _source(context: Context, file: File) -> Object:
    return {"uri": open_local(context, file), "sha256": file.sha256}


def _output(context: Context, job: Job) -> str | None:
    """Return where the artifact goes: beside the files in an object store, or on one machine in the work's folder."""
    if context.settings.backend == "local":
        return None
    return f"{context.settings.files.rstrip('/')}/artifacts/{job.project_id}/{job.object_name}"
