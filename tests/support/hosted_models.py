"""Models of the hosted service, for tests: rows that the reconciler would write."""

import time
from typing import Any

from sqlalchemy import select

from support.hosted import Hosted
from tunesmith_hosted.database.tables import ApiKey, Checkpoint, CheckpointPermission, File, Job, Project, TunedModel
from tunesmith_hosted.tenants.keys import create_key
from tunesmith_hosted.tenants.projects import create_project


def project_of(hosted: Hosted, key: str) -> str:
    """Return the id of a key's project."""

    async def find() -> str:
        async with hosted.sessions() as session:
            lookup = key.removeprefix("sk-ts-").split("-")[0]
            return (await session.execute(select(ApiKey.project_id).where(ApiKey.lookup == lookup))).scalar_one()

    return hosted.run(find())


def add_project(hosted: Hosted, organization: str, name: str) -> str:
    """Add a project, and return a key of it."""

    async def add() -> str:
        async with hosted.sessions.begin() as session:
            project = await create_project(session, organization, name, "t-")
            return create_key(session, project.id, "test").secret

    return hosted.run(add())


def add_model(
    hosted: Hosted, key: str, suffix: str, *, id: str = "abcdefgh", endpoint: str | None = None, **columns: Any
) -> str:
    """Add a fine-tuned model with its job, and return its name; it is awake if it has an endpoint."""
    project_id = project_of(hosted, key)

    async def add() -> str:
        async with hosted.sessions.begin() as session:
            project = await session.get_one(Project, project_id)
            file, job = f"file-{suffix}{id}", f"ftjob-{suffix}{id}"
            name = f"ft:tiny:{'rival' if key == hosted.other_key else 'acme'}:{suffix}:{id}"
            session.add(
                File(
                    id=file, project_id=project.id, filename="a", purpose="fine-tune", bytes=1, sha256="", path=file,
                    status="processed", created_at=1,
                )
            )  # fmt: skip
            await session.flush()
            session.add(
                Job(
                    id=job, project_id=project.id, base="tiny", model="tiny", suffix=suffix, seed=1,
                    method={"type": "supervised"}, request={}, training_file=file, status="succeeded",
                    object_name=f"ft-{id}", created_at=1, fine_tuned_model=name,
                )
            )  # fmt: skip
            await session.flush()
            given = {"artifact": "x", "workspace": "tiny", "wanted": "awake" if endpoint else "asleep", **columns}
            session.add(
                TunedModel(
                    id=name, project_id=project.id, job_id=job, base="tiny", endpoint=endpoint,
                    created_at=int(time.time()), **given,
                )
            )  # fmt: skip
            return name

    return hosted.run(add())


def add_checkpoint(hosted: Hosted, model: str, step: int, share_with: str | None = None) -> str:
    """Add a checkpoint of a model that was never asked, and return its name."""

    async def add() -> str:
        async with hosted.sessions.begin() as session:
            row = await session.get_one(TunedModel, model)
            name, id = f"{model}:ckpt-step-{step}", f"ftckpt_{step}{model[-8:]}"
            session.add(Checkpoint(id=id, job_id=row.job_id, step=step, model=name, created_at=int(time.time())))
            await session.flush()
            if share_with is not None:
                session.add(CheckpointPermission(id=f"cp_{id}", checkpoint_id=id, project_id=share_with, created_at=1))
            return name

    return hosted.run(add())
