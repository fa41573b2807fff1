"""What is written into the store is noted in the database before, so that a crash leaves nothing that nobody knows."""

from __future__ import annotations

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.database.outbox import ask_for
from tunesmith_hosted.database.tables import Outbox


def path_of(id: str, filename: str = "") -> str:
    """Return the path in the store of the content of an id.

    JSONL keeps its ending, by which a job's first stage knows the format.
    """
    return f"{id}{'.jsonl' if filename.lower().endswith('.jsonl') else ''}"


def paths_of(id: str) -> tuple[str, ...]:
    """Return all paths that the content of an id may have."""
    return path_of(id), path_of(id, ".jsonl")


async def reserve(session: AsyncSession, id: str, seconds: float) -> None:
    """Let `cleanup.clean` remove what was written for an id, unless it is settled within `seconds`."""
    await ask_for(session, "file", id, after=seconds)


async def settle(session: AsyncSession, id: str, *, expires_in: float | None = None) -> None:
    """Keep what was written for an id, in the transaction that adds its row.

    Args:
        session: The session of the transaction.
        id: The id.
        expires_in: Seconds after which it is looked at again.
    """
    await session.execute(delete(Outbox).where(Outbox.kind == "file", Outbox.subject == id))
    if expires_in is not None:
        await ask_for(session, "file", id, after=expires_in)
