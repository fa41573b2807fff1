"""The transactional outbox: what must happen outside is written beside what was asked."""

from __future__ import annotations

import time
from typing import Literal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.database.tables import Outbox

Kind = Literal["job", "model", "file", "project"]


async def ask_for(session: AsyncSession, kind: Kind, subject: str, *, after: float = 0) -> None:
    """Let the reconciler look at a subject, in this transaction; once, however often it is asked for.

    Args:
        session: The session of the transaction.
        kind: What the subject is.
        subject: Its id.
        after: Seconds to wait before.
    """
    due = time.time() + after
    row = (
        await session.execute(select(Outbox).where(Outbox.kind == kind, Outbox.subject == subject).with_for_update())
    ).scalar_one_or_none()
    if row is None:
        session.add(Outbox(kind=kind, subject=subject, due_at=due, claimed_until=0.0, attempts=0))
    else:
        row.due_at = min(row.due_at, due)
        row.attempts = 0
