"""The outbox keeps every wish, also of a subject that a replica is looking at, for however long."""

import asyncio
import time

import pytest
from sqlalchemy import select

from tunesmith_hosted.database.engine import Sessions, connect, sessions_of
from tunesmith_hosted.database.migrate import migrate
from tunesmith_hosted.database.outbox import ask_for
from tunesmith_hosted.database.tables import Outbox
from tunesmith_hosted.reconcile import claims


async def ask(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        await ask_for(session, "job", "ftjob-1")


async def due(sessions: Sessions) -> list[float]:
    async with sessions() as session:
        return list((await session.execute(select(Outbox.due_at))).scalars())


@pytest.mark.parametrize("late", [0.0, claims.CLAIM_SECONDS + 5])
def test_a_wish_during_a_look_is_kept(database_url: str, late: float) -> None:
    async def main() -> None:
        engine = connect(database_url)
        await migrate(engine)
        sessions = sessions_of(engine)
        await ask(sessions)
        begun = time.time() - late  # the replica was stopped for longer than its claim, and nobody took it over
        (claim,) = await claims.take(sessions, time.time() + 1, 8)
        claim = claims.Claim(claim.number, claim.kind, claim.subject, 0, begun + claims.CLAIM_SECONDS)
        async with sessions.begin() as session:
            row = await session.get_one(Outbox, claim.number)
            row.due_at = row.claimed_until = claim.until
        await ask(sessions)
        await claims.settle(sessions, claim, time.time(), None)
        (at,) = await due(sessions)
        assert at <= time.time() + 1
        await engine.dispose()

    asyncio.run(main())


def test_a_claim_that_was_taken_over_is_left_alone(database_url: str) -> None:
    async def main() -> None:
        engine = connect(database_url)
        await migrate(engine)
        sessions = sessions_of(engine)
        await ask(sessions)
        now = time.time() + 1
        (slow,) = await claims.take(sessions, now, 8)
        assert await claims.take(sessions, now + 1, 8) == []
        (other,) = await claims.take(sessions, now + claims.CLAIM_SECONDS + 1, 8)
        await claims.settle(sessions, slow, now, None)
        await claims.fail(sessions, slow, now, "too late")
        await claims.renew(sessions, slow, now)
        assert await claims.take(sessions, now + claims.CLAIM_SECONDS + 2, 8) == []
        await claims.settle(sessions, other, now, None)
        assert await due(sessions) == []
        await claims.settle(sessions, slow, now, 0.0)
        assert len(await due(sessions)) == 1, "its last act may have been after the other's"
        await engine.dispose()

    asyncio.run(main())


def test_many_ask_at_once(postgres_url: str) -> None:
    async def main() -> None:
        engine = connect(postgres_url)
        await migrate(engine)
        sessions = sessions_of(engine)
        await asyncio.gather(*(ask(sessions) for _ in range(12)))
        assert len(await due(sessions)) == 1
        await engine.dispose()

    asyncio.run(main())
