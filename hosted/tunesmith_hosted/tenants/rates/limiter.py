"""Takes requests and tokens from a project's minute, over all replicas.

A replica takes a little more than it needs for the current slot of seconds, and gives back what is left of it: most
requests wait for no database, and the limit holds in any minute over all replicas.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.config.settings import Quotas
from tunesmith_hosted.database.engine import Sessions
from tunesmith_hosted.database.tables import RateWindow
from tunesmith_hosted.http.errors import ApiError
from tunesmith_hosted.tenants.rates.window import Standing, add, recent, slot_of, standing, wait_for

Kind = Literal["requests", "tokens"]
KINDS: tuple[Kind, ...] = ("requests", "tokens")
_SHARE = 60  # of a limit is taken at once


@dataclass
class Taken:
    """What a request has taken.

    Attributes:
        slot: The slot that it was taken in.
        tokens: Tokens that it has taken.
        standings: How the project stands to its limits now.
    """

    slot: int
    tokens: int
    standings: dict[Kind, Standing] = field(default_factory=dict)

    def headers(self) -> dict[str, str]:
        """Return the headers that OpenAI's clients read."""
        found: dict[str, str] = {}
        for kind, value in self.standings.items():
            found[f"x-ratelimit-limit-{kind}"] = str(value.limit)
            found[f"x-ratelimit-remaining-{kind}"] = str(value.remaining)
            found[f"x-ratelimit-reset-{kind}"] = f"{value.reset:.3f}s"
        return found

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers as ASGI has them."""
        return [(name.encode(), value.encode()) for name, value in self.headers().items()]


@dataclass
class _Lease:
    """What this replica has taken for a project and not used, in a slot.

    Attributes:
        slot: The slot.
        left: What is left.
        standings: As the database had them.
        corrections: Tokens to add to slots at the next look at the database.
    """

    slot: int = 0
    left: dict[Kind, int] = field(default_factory=dict)
    standings: dict[Kind, Standing] = field(default_factory=dict)
    corrections: dict[int, int] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def has(self, amounts: dict[Kind, int], kinds: Iterable[Kind], now: float) -> bool:
        """Return whether amounts can be taken without the database."""
        return self.slot == slot_of(now) and all(self.left.get(kind, 0) >= amounts[kind] for kind in kinds)

    def take(self, amounts: dict[Kind, int]) -> Taken:
        """Take amounts that are there."""
        for kind in self.left:
            self.left[kind] -= amounts[kind]
        standings = {
            kind: Standing(found.limit, found.remaining + self.left.get(kind, 0), found.reset)
            for kind, found in self.standings.items()
        }
        return Taken(self.slot, amounts["tokens"], standings)


class RateLimiter:
    """Counts in the database, in a row of the project."""

    def __init__(self, sessions: Sessions, now: Callable[[], float] = time.time) -> None:
        self._sessions = sessions
        self._now = now
        self._leases: dict[str, _Lease] = {}

    async def take(self, project_id: str, quotas: Quotas, tokens: int) -> Taken:
        """Take a request and its tokens.

        Raises:
            ApiError: They do not fit into this minute. Nothing is taken.
        """
        limits = _limits(quotas)
        amounts: dict[Kind, int] = {"requests": 1, "tokens": tokens}
        if not limits:
            return Taken(slot_of(self._now()), tokens)
        lease = self._leases.get(project_id)
        if lease is None:
            lease = self._leases[project_id] = _Lease()
        now = self._now()
        if lease.lock.locked() or not lease.has(amounts, limits, now):
            async with lease.lock:
                now = self._now()
                if not lease.has(amounts, limits, now):
                    refusal = await self._refill(project_id, lease, limits, amounts, now)
                    if refusal is not None:
                        raise refusal
                return lease.take(amounts)
        return lease.take(amounts)

    def settle(self, project_id: str, taken: Taken, used: int) -> None:
        """Correct the tokens that a request has taken to those that it has used; the next look writes it down."""
        lease = self._leases.get(project_id)
        if lease is not None:
            lease.corrections[taken.slot] = lease.corrections.get(taken.slot, 0) + used - taken.tokens
        taken.tokens = used

    async def _refill(
        self, project_id: str, lease: _Lease, limits: dict[Kind, int], amounts: dict[Kind, int], now: float
    ) -> ApiError | None:
        """Take amounts and a little more from the database; return why they cannot be had."""
        refusal = None
        async with self._sessions.begin() as session:
            row = await _row(session, project_id)
            slots = {kind: recent(row.slots.get(kind, {}), now) for kind in KINDS}
            for kind, left in lease.left.items():
                slots[kind] = add(slots[kind], now, -left, lease.slot)
            for slot, more in lease.corrections.items():
                slots["tokens"] = add(slots["tokens"], now, more, slot)
            lease.left, lease.corrections = {}, {}
            waits = {kind: wait_for(slots[kind], limit, amounts[kind], now) for kind, limit in limits.items()}
            refused = next((kind for kind, wait in waits.items() if wait != 0), None)
            if refused is None:
                lease.slot = slot_of(now)
                for kind, limit in limits.items():
                    room = limit - sum(slots[kind].values())
                    lease.left[kind] = max(amounts[kind], min(room, limit // _SHARE))
                    slots[kind] = add(slots[kind], now, lease.left[kind])
            lease.standings = {kind: standing(slots[kind], limit, now) for kind, limit in limits.items()}
            if refused is not None:
                refusal = _refusal(refused, amounts[refused], waits[refused], lease.standings)
            row.slots = {str(kind): used for kind, used in slots.items()}
        return refusal


async def _row(session: AsyncSession, project_id: str) -> RateWindow:
    """Return the row of a project, and keep other replicas from it until the end of the transaction."""
    query = select(RateWindow).where(RateWindow.project_id == project_id).with_for_update()
    row = (await session.execute(query)).scalar_one_or_none()
    if row is None:
        insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
        await session.execute(insert(RateWindow).values(project_id=project_id, slots={}).on_conflict_do_nothing())
        row = (await session.execute(query)).scalar_one()
    return row


def _limits(quotas: Quotas) -> dict[Kind, int]:
    found: dict[Kind, int | None] = {"requests": quotas.requests_a_minute, "tokens": quotas.tokens_a_minute}
    return {kind: limit for kind, limit in found.items() if limit is not None}


def _refusal(kind: Kind, amount: int, wait: float | None, standings: dict[Kind, Standing]) -> ApiError:
    headers, limit = Taken(0, 0, standings).headers(), standings[kind].limit
    if wait is None:
        message = f"This request may need {amount} {kind}, and the project's limit is {limit} a minute; ask for fewer"
        return ApiError(429, message, type=kind, code="rate_limit_exceeded", headers=headers)
    headers |= {"retry-after": str(int(wait) + 1), "retry-after-ms": str(int(1000 * wait) + 1)}
    message = (
        f"Rate limit reached for {kind} per minute: limit {limit}, remaining {standings[kind].remaining}, "
        f"requested {amount}. Please try again in {wait:.3f}s"
    )
    return ApiError(429, message, type=kind, code="rate_limit_exceeded", headers=headers)
