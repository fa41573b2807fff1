"""Rows of the outbox, each worked on by one replica at a time.

A claimed row is due again when its claim ends, so that what a killed replica has begun is taken over. Whoever asks
again meanwhile makes it due earlier, which `settle` notices: no wish is lost. A replica that was only slow finds its
claim taken over, and leaves it to the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from sqlalchemy import delete, select, update

from tunesmith_hosted.database.engine import Sessions
from tunesmith_hosted.database.outbox import Kind, ask_for
from tunesmith_hosted.database.tables import Outbox

CLAIM_SECONDS = 20.0
MOST_SECONDS, AWAY_SECONDS = 60.0, 10.0


@dataclass(frozen=True)
class Claim:
    """A row that this replica works on.

    Attributes:
        number: Its number.
        kind: What the subject is.
        subject: Id of the subject.
        attempts: How often it was tried without success before.
        until: When the row is due if nobody asks again before.
    """

    number: int
    kind: Kind
    subject: str
    attempts: int
    until: float


async def take(sessions: Sessions, now: float, most: int) -> list[Claim]:
    """Claim rows that are due, those first that have waited longest."""
    until = now + CLAIM_SECONDS
    async with sessions.begin() as session:
        query = (
            select(Outbox)
            .where(Outbox.due_at <= now, Outbox.claimed_until <= now)
            .order_by(Outbox.due_at, Outbox.number)
            .limit(most)
            .with_for_update(skip_locked=True)
        )
        rows = list((await session.execute(query)).scalars())
        for row in rows:
            row.claimed_until = row.due_at = until
        return [Claim(row.number, cast(Kind, row.kind), row.subject, row.attempts, until) for row in rows]


async def renew(sessions: Sessions, claim: Claim, now: float) -> None:
    """Keep a claim for longer."""
    async with sessions.begin() as session:
        mine = update(Outbox).where(Outbox.number == claim.number, Outbox.due_at <= claim.until)
        await session.execute(mine.values(claimed_until=now + CLAIM_SECONDS))


async def settle(sessions: Sessions, claim: Claim, now: float, again: float | None) -> None:
    """Give a row back.

    Args:
        sessions: Opens sessions.
        claim: The claim.
        now: The time.
        again: Seconds after which it is due again; None removes it. If somebody has asked meanwhile, it is due now.
    """
    row = Outbox.number == claim.number
    async with sessions.begin() as session:
        due = (await session.execute(select(Outbox.due_at).where(row).with_for_update())).scalar_one_or_none()
        if due is None:
            # Another has taken it over and was done, perhaps before this one's last act.
            await ask_for(session, claim.kind, claim.subject, after=again or 0.0)
            return
        if due > claim.until:
            return
        if due == claim.until and again is None:
            await session.execute(delete(Outbox).where(row))
            return
        values = {"claimed_until": 0.0, "attempts": 0, "error": None}
        if due == claim.until:
            values["due_at"] = now + (again or 0.0)
        await session.execute(update(Outbox).where(row).values(values))


async def fail(sessions: Sessions, claim: Claim, now: float, error: str, most: float = MOST_SECONDS) -> None:
    """Give a row back that could not be dealt with. It is due again later, the more often it fails.

    Args:
        sessions: Opens sessions.
        claim: The claim.
        now: The time.
        error: Why it could not.
        most: The most seconds until it is due again.
    """
    row = Outbox.number == claim.number
    wait = min(most, 2.0 ** min(claim.attempts, 10))
    async with sessions.begin() as session:
        due = (await session.execute(select(Outbox.due_at).where(row).with_for_update())).scalar_one_or_none()
        if due is None or due > claim.until:
            return
        values = {"claimed_until": 0.0, "attempts": claim.attempts + 1, "error": error[:2000]}
        if due == claim.until:
            values["due_at"] = now + wait
        await session.execute(update(Outbox).where(row).values(values))
