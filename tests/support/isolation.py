"""Something of each kind that belongs to the first project: what another project must not find.

A room with a new parameter in its paths adds it to `FOREIGN`, and a body that its new route needs to `BODIES`.
"""

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from support.hosted import Hosted
from tunesmith_hosted.database.tables import (
    ApiKey,
    Checkpoint,
    CheckpointPermission,
    File,
    Job,
    JobEvent,
    Organization,
    Project,
    TunedModel,
    Upload,
)

CANARY = "canary-of-acme"
MODEL = f"ft:tiny:acme:{CANARY}:1"
NOW = 1_700_000_000

# The ids of a project by the names of parameters in paths.
FOREIGN = {
    "file_id": "file-canary",
    "upload_id": "upload_canary",
    "fine_tuning_job_id": "ftjob-canary",
    "checkpoint": f"{MODEL}:ckpt-step-1",
    "permission_id": "cp_canary",
    "model": MODEL,
}

# What routes need besides an id, by method and path.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("post", "/v1/organization/projects/{project_id}"): {"json": {"name": "mine"}},
    ("post", "/v1/organization/projects/{project_id}/api_keys"): {"json": {"name": "mine"}},
    ("post", "/v1/uploads/{upload_id}/parts"): {"files": {"data": b"row"}},
    ("post", "/v1/uploads/{upload_id}/complete"): {"json": {"part_ids": ["part_1"]}},
    ("post", "/console/api/plan"): {"json": {"model": "tiny", "training_file": FOREIGN["file_id"]}},
    ("post", "/v1/fine_tuning/checkpoints/{checkpoint}/permissions"): {"json": {"project_ids": ["proj_1"]}},
}


def plant(hosted: Hosted) -> dict[str, str]:
    """Write a row of each kind for the first project, and return the ids by the names of parameters."""

    async def write() -> dict[str, str]:
        async with hosted.sessions.begin() as session:
            query = select(Project.id).join(Organization).where(Organization.name == "acme")
            project = (await session.execute(query)).scalar_one()
            await _add_rows(session, project)
            key = (await session.execute(select(ApiKey.id).where(ApiKey.project_id == project))).scalars().first()
            return {**FOREIGN, "project_id": project, "api_key_id": str(key)}

    found: dict[str, str] = hosted.run(write())
    return found


async def _add_rows(session: AsyncSession, project: str) -> None:
    own: dict[str, Any] = {"project_id": project, "created_at": NOW}
    file = {"filename": CANARY, "purpose": "fine-tune", "bytes": 1}
    session.add(File(id=FOREIGN["file_id"], **own, **file, sha256="0", path=CANARY, status="processed"))
    session.add(
        Upload(id=FOREIGN["upload_id"], **own, **file, mime_type="text/jsonl", status="pending", expires_at=2**40)
    )
    await session.flush()
    job = {"base": "tiny", "model": "tiny", "suffix": CANARY, "seed": 1, "method": {}, "request": {}}
    object = {"object_name": "ft-canary", "training_file": FOREIGN["file_id"], "fine_tuned_model": MODEL}
    session.add(Job(id=FOREIGN["fine_tuning_job_id"], **own, **job, **object, status="succeeded"))
    await session.flush()
    model = {"job_id": FOREIGN["fine_tuning_job_id"], "base": "tiny", "artifact": CANARY, "workspace": "ft-canary"}
    session.add(TunedModel(id=MODEL, **own, **model))
    of_job = {"job_id": FOREIGN["fine_tuning_job_id"], "created_at": NOW}
    session.add(JobEvent(id="ftevent-canary", **of_job, number=1, level="info", type="message", message=CANARY))
    session.add(Checkpoint(id="ftckpt_canary", **of_job, step=1, model=FOREIGN["checkpoint"]))
    await session.flush()
    session.add(CheckpointPermission(id=FOREIGN["permission_id"], checkpoint_id="ftckpt_canary", **own))
