"""The transactional outbox: what must happen outside is written beside what was asked."""

from __future__ import annotations

import time
from typing import Literal

from sqlalchemy import case
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.database.tables import Outbox

Kind = Literal["job", "model", "file", "project"]

_MOMENT = 0.001


async def ask_for(session: AsyncSession, kind: Kind, subject: str, *, after: float = 0) -> None:
    """Let the reconciler look at a subject, in this transaction; once, however often it is asked for.

    Args:
        session: The session of the transaction.
        kind: What the subject is.
        subject: Its id.
        after: Seconds to wait before.
    """
    due = time.time() + after
    # One statement: a row may appear or go between two, while another replica asks for or settles the same.
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    row = insert(Outbox).values(kind=kind, subject=subject, due_at=due, claimed_until=0.0, attempts=0)
    # It changes in any case, also of a row that is due and still claimed, so that whoever has claimed it notices.
    earlier = case((Outbox.due_at <= row.excluded.due_at, Outbox.due_at - _MOMENT), else_=row.excluded.due_at)
    await session.execute(
        row.on_conflict_do_update(index_elements=[Outbox.kind, Outbox.subject], set_={"due_at": earlier, "attempts": 0})
    )
