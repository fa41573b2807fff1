"""What projects use: added up by project, day and model."""

from __future__ import annotations

import time

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.database.tables import Usage

SECONDS_A_DAY = 86_400


async def add_usage(
    session: AsyncSession,
    project_id: str,
    model: str,
    *,
    requests: int = 0,
    input_tokens: int = 0,
    cached_tokens: int = 0,
    output_tokens: int = 0,
    trained_tokens: int = 0,
    gpu_seconds: float = 0.0,
) -> None:
    """Add to what a project has used of a model today (UTC), in this transaction.

    The database adds, so that replicas that do it at the same time lose nothing.

    Args:
        session: The session of the transaction.
        project_id: The project.
        model: Public name of the model; of training, the base's.
        requests: Answered requests.
        input_tokens: Tokens of prompts, those from a cache too.
        cached_tokens: Those of them that came from a cache.
        output_tokens: Tokens of answers.
        trained_tokens: Tokens that were trained on.
        gpu_seconds: Seconds of training times GPUs.
    """
    added = {
        "requests": requests,
        "input_tokens": input_tokens,
        "cached_tokens": cached_tokens,
        "output_tokens": output_tokens,
        "trained_tokens": trained_tokens,
        "gpu_seconds": gpu_seconds,
    }
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    day = int(time.time()) // SECONDS_A_DAY
    statement = insert(Usage).values(project_id=project_id, day=day, model=model, **added)
    sums = {name: getattr(Usage, name) + getattr(statement.excluded, name) for name in added}
    await session.execute(
        statement.on_conflict_do_update(index_elements=[Usage.project_id, Usage.day, Usage.model], set_=sums)
    )
