"""Makes the InferenceWorkspaces of models what their rows say: awake, asleep or gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_backend.interface.protocol import ObjectRef
from tunesmith_hosted.database.tables import Job, Project, ServedBase, TunedModel
from tunesmith_hosted.fine_tuning.access import with_access
from tunesmith_hosted.fine_tuning.workspace import workspace_manifest
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.models.finding import model_artifact
from tunesmith_hosted.reconcile.artifacts import remove_artifact
from tunesmith_hosted.reconcile.backend import Object, Objects, look_seconds

BASES = "bases"
"""Name of the namespace of the base models' servers, after the prefix of all namespaces."""

_IDLE_LOOKS = 4
_WAKING_LOOKS = 5


@dataclass(frozen=True)
class _Served:
    """A row of models or of base models.

    Attributes:
        table: The table.
        id: Its primary key.
        wanted: `awake`, `asleep` or `deleted`.
        last_used_at: When it was asked last.
        ref: Its InferenceWorkspace.
        manifest: That as it is to be.
        job: FineTuneJob that made it.
    """

    table: type[TunedModel] | type[ServedBase]
    id: str
    wanted: str
    last_used_at: int | None
    ref: ObjectRef
    manifest: Object
    job: ObjectRef | None = None

    @property
    def subject(self) -> str:
        """What the outbox knows it by."""
        return f"base:{self.id}" if self.table is ServedBase else self.id


async def look_at_model(context: Context, objects: Objects, id: str) -> float | None:
    """Do what is to be done about a model, and return after how many seconds to look again; None if not."""
    served = await (_load_tuned(context, id) if id.startswith("ft:") else _load_base(context, id.removeprefix("base:")))
    if served is None:
        return None
    if served.wanted == "deleted":
        await objects.delete(served.ref)
        await _write(context, served, None, None)
        return None if served.job is None else await remove_artifact(context, objects, served.id, served.job)
    if served.wanted == "awake" and await _falls_asleep(context, served):
        return 0
    found = await objects.find(served.ref)
    if served.wanted == "asleep":
        if found is not None and found["spec"].get("replicas") != 0:
            # Nothing is sent there any more before its servers go.
            await _write(context, served, None, None)
            await objects.apply(served.ref, served.manifest)
        await _write(context, served, None, None)
        return None
    if found is None or not objects.is_applied(served.ref, served.manifest):
        try:
            await objects.apply(served.ref, served.manifest)
        except BackendError as error:
            if error.kind is not ErrorKind.INVALID:
                raise
            await _write(context, served, None, f"The model cannot be served: {error}")
            return None
    endpoint = await objects.endpoint(served.ref)
    await _write(context, served, endpoint, None if endpoint else _why(await objects.find(served.ref)))
    if endpoint is None:
        return look_seconds(context) / _WAKING_LOOKS  # somebody waits for it
    return max(context.settings.reconcile_seconds, context.settings.idle_seconds / _IDLE_LOOKS)


async def _load_tuned(context: Context, id: str) -> _Served | None:
    async with context.sessions() as session:
        query = (
            select(TunedModel, Project.namespace, Job.object_name)
            .join(Project, TunedModel.project_id == Project.id)
            .join(Job, TunedModel.job_id == Job.id)
            .where(TunedModel.id == id)
        )
        found = (await session.execute(query)).one_or_none()
    if found is None:
        return None
    row, namespace, job = found
    artifact = row.artifact or await _fill_artifact(context, row)
    base, awake = context.settings.base(row.base), row.wanted == "awake"
    manifest = workspace_manifest(row.workspace, namespace, artifact, base, awake=awake, project_id=row.project_id)
    manifest = with_access(manifest, context.settings)
    ref = ObjectRef("InferenceWorkspace", row.workspace, namespace)
    maker = ObjectRef("FineTuneJob", job, namespace)
    return _Served(TunedModel, id, row.wanted, row.last_used_at, ref, manifest, maker)


async def _fill_artifact(context: Context, checkpoint: TunedModel) -> str:
    """Write down what the servers of a checkpoint load: if it has no artifact of its own, that of its model."""
    async with context.sessions.begin() as session:
        artifact = await model_artifact(session, checkpoint.job_id)
        (await session.get_one(TunedModel, checkpoint.id)).artifact = artifact
    return artifact


async def _load_base(context: Context, name: str) -> _Served | None:
    async with context.sessions() as session:
        row = await session.get(ServedBase, name)
    base = context.settings.base(name)
    if row is None:
        return None
    namespace = context.settings.namespace_prefix + BASES
    wanted = row.wanted if base is not None and base.artifact else "deleted"
    artifact = base.artifact if base is not None else ""
    manifest = workspace_manifest(row.workspace, namespace, artifact, base, awake=wanted == "awake")
    manifest = with_access(manifest, context.settings)
    ref = ObjectRef("InferenceWorkspace", row.workspace, namespace)
    return _Served(ServedBase, name, wanted, row.last_used_at, ref, manifest)


async def _falls_asleep(context: Context, served: _Served) -> bool:
    """Let a model sleep that nobody has asked for a while, and return whether it does.

    One that was never asked is given its time from now on.
    """
    now = context.now()
    if served.last_used_at is not None and now - served.last_used_at <= context.settings.idle_seconds:
        return False
    async with context.sessions.begin() as session:
        row: Any = await session.get_one(served.table, served.id, with_for_update=True)
        if row.wanted != "awake":
            return True
        if row.last_used_at is None:
            row.last_used_at = int(now)
        if now - row.last_used_at <= context.settings.idle_seconds:
            return False
        row.wanted, row.endpoint = "asleep", None
        return True


async def _write(context: Context, served: _Served, endpoint: str | None, message: str | None) -> None:
    """Write back where a model is served, and why it is not, if that has changed."""
    async with context.sessions.begin() as session:
        row: Any = await session.get_one(served.table, served.id, with_for_update=True)
        # A model that was put to sleep meanwhile is served nowhere.
        row.endpoint = endpoint if row.wanted == "awake" else None
        row.message = message
    context.notices.tell(served.subject)  # who waits for it here need not poll


def _why(found: Object | None) -> str | None:
    """Return why a workspace serves nothing, if that is more than that it starts."""
    status = (found or {}).get("status", {})
    if status.get("phase") not in ("Blocked", "Failed"):
        return None
    ready: Object = next((item for item in status.get("conditions") or [] if item.get("type") == "Ready"), {})
    message = ready.get("message")
    return None if message is None else str(message)
