"""Attempts to sign in: what must come back from the provider, to the same browser, once."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_hosted.console.sign_in.cookies import digest, new_secret
from tunesmith_hosted.console.sign_in.provider import SignInError
from tunesmith_hosted.database.tables import SignInAttempt

SECONDS = 600
"""How long somebody may take at the provider."""


@dataclass(frozen=True)
class Attempt:
    """What a new attempt is made of. `state` goes to the provider, `browser` into a cookie."""

    state: str
    browser: str
    nonce: str
    verifier: str


async def add_attempt(session: AsyncSession, provider: str, next: str) -> Attempt:
    """Add an attempt to the session, and remove those that nobody came back from."""
    found = Attempt(new_secret(), new_secret(), new_secret(), new_secret())
    now = int(time.time())
    await session.execute(delete(SignInAttempt).where(SignInAttempt.expires_at <= now))
    session.add(
        SignInAttempt(
            id=digest(found.state),
            browser=digest(found.browser),
            provider=provider,
            nonce=found.nonce,
            verifier=found.verifier,
            next=next,
            expires_at=now + SECONDS,
        )
    )
    return found


async def take_attempt(session: AsyncSession, provider: str, state: str, browser: str) -> SignInAttempt:
    """Remove an attempt, and return it. Nobody can be made to sign in as somebody else: the browser must be the same.

    Raises:
        SignInError: There is none for this provider, state and browser.
    """
    query = select(SignInAttempt).where(SignInAttempt.id == digest(state), SignInAttempt.provider == provider)
    row = (await session.execute(query.with_for_update())).scalar_one_or_none()
    if row is None or row.expires_at <= time.time() or row.browser != digest(browser):
        raise SignInError("This sign-in was begun in another browser, was used before, or took too long; sign in again")
    await session.delete(row)
    return row


def safe_path(path: str) -> str:
    """Return a path of the console to go to, whatever was asked for."""
    is_safe = path.startswith("/console/") and "\\" not in path and len(path) <= 255 and path.isprintable()
    return path if is_safe and not path.startswith("/console/api/") else "/console/"
