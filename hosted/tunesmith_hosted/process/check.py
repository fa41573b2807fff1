"""Compares the database with the backend and the store of files: after a restore they are of different times.

What the database has and the others lack heals by itself or is told to whoever asks for it. What the others have and
the database lacks belongs to nobody any more: it is shown, and removed if that is asked for.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_api.artifact import checkpoint_uri
from tunesmith_backend.interface.protocol import Backend, Kind, ObjectRef
from tunesmith_hosted.config.settings import Settings
from tunesmith_hosted.database.engine import Sessions
from tunesmith_hosted.database.outbox import ask_for
from tunesmith_hosted.database.tables import File, Job, Outbox, Project, ServedBase, TunedModel, UploadPart
from tunesmith_hosted.files.store import PARTIAL, Store
from tunesmith_hosted.fine_tuning.events import FINISHED
from tunesmith_hosted.reconcile.models import BASES

_KINDS: tuple[Kind, ...] = ("FineTuneJob", "InferenceWorkspace")
_MANAGER = "app.kubernetes.io/managed-by"
_ARTIFACTS = "artifacts"
_CHECKPOINT = checkpoint_uri("", r"\d+") + "$"


@dataclass(frozen=True)
class Known:
    """What the database knows.

    Attributes:
        objects: The objects that it may have made.
        running: Those of them that must be there.
        files: Ids of files by their paths, as far as they are not deleted.
        contents: Ids whose contents may be in the store, while they are written or until they are removed.
        artifacts: Names of jobs whose artifacts are kept.
    """

    objects: frozenset[ObjectRef]
    running: dict[ObjectRef, str]
    files: dict[str, str]
    contents: frozenset[str]
    artifacts: frozenset[str]


async def check(
    settings: Settings, sessions: Sessions, backend: Backend, remove: bool, say: Callable[[str], None]
) -> int:
    """Say what one has and another lacks; return how much of it is left.

    Args:
        settings: The settings.
        sessions: Opens sessions.
        backend: The backend.
        remove: Whether to remove what the database does not know.
        say: Prints a line.
    """
    # What is made is in the database before it is anywhere else, so the database is read last.
    found = [
        ObjectRef(kind, item["metadata"]["name"], item["metadata"]["namespace"])
        for kind in _KINDS
        for item in await backend.list(kind)
        if (item["metadata"].get("labels") or {}).get(_MANAGER) == "tunesmith-hosted"
    ]
    store = Store(settings.files)
    paths = await asyncio.to_thread(store.paths)
    async with sessions.begin() as session:
        known = await _known(session, settings)
        for ref, id in known.running.items():
            if ref not in found:
                say(f"{ref} of {id} is not there; it is made again")
            await ask_for(session, "job", id)
    there, left = set(paths), 0
    for path, id in sorted(known.files.items()):
        if path not in there:
            say(f"{id} has no content; whoever uses it is told to upload it again")
            left += 1
    for ref in found:
        if ref.namespace.startswith(settings.namespace_prefix) and ref not in known.objects:
            say(f"{ref} belongs to nothing in the database{'; it is removed' if remove else ''}")
            left += not remove
            if remove:
                await backend.delete(ref)
    for path in paths:
        if not _is_known(path, known):
            say(f"{path} in the store belongs to nothing in the database{'; it is removed' if remove else ''}")
            left += not remove
            if remove:
                await asyncio.to_thread(store.remove, path.removeprefix(f"{PARTIAL}/"))
    say("nothing is left to do" if not left else f"{left} left; see docs/hosted.md")
    return left


def _is_known(path: str, known: Known) -> bool:
    parts = PurePosixPath(path.removeprefix(f"{PARTIAL}/")).parts
    if parts[:1] == (_ARTIFACTS,):
        job = re.sub(_CHECKPOINT, "", parts[2]) if len(parts) > 2 else ""  # noqa: PLR2004 - artifacts/PROJECT/JOB/...
        return job in known.artifacts
    return path in known.files or parts[-1].removesuffix(".jsonl") in known.contents


async def _known(session: AsyncSession, settings: Settings) -> Known:
    objects: set[ObjectRef] = set()
    running: dict[ObjectRef, str] = {}
    artifacts = set()
    jobs = select(Job.id, Job.object_name, Job.status, Job.place_at, Project.namespace).join(Project)
    for id, name, status, place_at, namespace in await session.execute(jobs):
        ref = ObjectRef("FineTuneJob", name, namespace)
        objects.add(ref)
        artifacts.add(name)
        if status not in FINISHED and place_at is not None:
            running[ref] = id
    models = select(TunedModel.workspace, Project.namespace).join(Project, TunedModel.project_id == Project.id)
    for workspace, namespace in await session.execute(models):
        objects.add(ObjectRef("InferenceWorkspace", workspace, namespace))
    for workspace in (await session.execute(select(ServedBase.workspace))).scalars():
        objects.add(ObjectRef("InferenceWorkspace", workspace, settings.namespace_prefix + BASES))
    files = select(File.path, File.id).where(File.deleted_at.is_(None))
    contents: set[str] = set()
    for query in (select(Outbox.subject).where(Outbox.kind == "file"), select(UploadPart.id)):
        contents.update((await session.execute(query)).scalars())
    by_path = {path: id for path, id in await session.execute(files)}
    return Known(frozenset(objects), running, by_path, frozenset(contents), frozenset(artifacts))
