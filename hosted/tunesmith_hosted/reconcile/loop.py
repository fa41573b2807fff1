"""The reconciler of a replica: takes what is due in the outbox, and looks at it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from sqlalchemy.exc import DBAPIError

from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_hosted.files.cleanup import clean
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.reconcile import claims
from tunesmith_hosted.reconcile.admission import admit
from tunesmith_hosted.reconcile.backend import Objects
from tunesmith_hosted.reconcile.claims import Claim
from tunesmith_hosted.reconcile.jobs import look_at_job
from tunesmith_hosted.reconcile.models import look_at_model
from tunesmith_hosted.reconcile.projects import ask_for_namespace, look_at_project

_AT_ONCE = 8
_TRIES, _PAUSE_SECONDS = 30, 1.0

_logger = logging.getLogger(__name__)


async def run(context: Context, wake: asyncio.Event, stop: asyncio.Event) -> None:
    """Reconcile until `stop` is set.

    Args:
        context: The service.
        wake: Set when there is something to do; it is looked for every `reconcile_seconds` anyway.
        stop: Set to end it. What it is doing is given up and taken over later, by this replica or another.
    """
    objects = Objects(context.backend)
    looking: set[asyncio.Task[None]] = set()
    try:
        while not stop.is_set():
            wake.clear()
            free = _AT_ONCE - len(looking)
            for claim in await _due(context, free):
                looking.add(asyncio.create_task(_look(context, objects, claim)))
            looking = await _wait(looking, wake, stop, context.settings.reconcile_seconds, full=not free)
    finally:
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)


async def _due(context: Context, free: int) -> list[Claim]:
    """Give places, and claim what is due; nothing while the database does not answer, which ends no look."""
    try:
        await admit(context)
        return await claims.take(context.sessions, context.now(), free) if free else []
    except DBAPIError as error:
        _logger.warning("the database does not answer: %s", type(error).__name__)
        return []


async def run_once(context: Context, objects: Objects) -> int:
    """Look once at everything that is due, one after the other, and return how much that was."""
    await admit(context)
    found = await claims.take(context.sessions, context.now(), 1000)
    for claim in found:
        await _look(context, objects, claim)
    return len(found)


async def _wait(
    looking: set[asyncio.Task[None]], wake: asyncio.Event, stop: asyncio.Event, seconds: float, *, full: bool
) -> set[asyncio.Task[None]]:
    """Wait until there may be something to do, and return the looks that go on."""
    signals = [asyncio.ensure_future(event.wait()) for event in ((stop,) if full else (wake, stop))]
    try:
        await asyncio.wait({*signals, *looking}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for signal in signals:
            signal.cancel()
    return {task for task in looking if not task.done()}


async def _look(context: Context, objects: Objects, claim: Claim) -> None:
    """Look at the subject of a claim, and give the claim back; never raises but for being cancelled."""
    renewing = asyncio.create_task(_renew(context, claim))
    try:
        again = await _dispatch(context, objects, claim)
    except asyncio.CancelledError:
        with suppress(Exception):
            await asyncio.shield(claims.settle(context.sessions, claim, context.now(), 0))
        raise
    except Exception as error:
        # What went wrong may hold names and contents of a project, which are nobody else's; the row keeps it.
        _logger.warning("%s was not reconciled: %s", claim.kind, type(error).__name__)
        reason = f"{type(error).__name__}: {error}"
        # An API server that is away comes back for all who wait: what it could not do is not to wait for a minute more.
        is_away = isinstance(error, BackendError) and error.kind is ErrorKind.RETRY
        most = claims.AWAY_SECONDS if is_away else claims.MOST_SECONDS
        await _give_back(lambda: claims.fail(context.sessions, claim, context.now(), reason, most))
        if isinstance(error, BackendError):
            await ask_for_namespace(context, claim.kind, claim.subject, error)
    else:
        await _give_back(lambda: claims.settle(context.sessions, claim, context.now(), again))
    finally:
        renewing.cancel()


async def _give_back(give: Callable[[], Awaitable[None]]) -> None:
    """Give a claim back, also if the database is away for a moment: it would have to end by itself."""
    for _ in range(_TRIES):
        try:
            return await give()
        except DBAPIError:
            await asyncio.sleep(_PAUSE_SECONDS)
    _logger.warning("a claim was not given back, since the database does not answer; it ends by itself")


async def _dispatch(context: Context, objects: Objects, claim: Claim) -> float | None:
    """Return after how many seconds to look again; None if there is nothing left to do."""
    match claim.kind:
        case "job":
            return await look_at_job(context, objects, claim.subject)
        case "model":
            return await look_at_model(context, objects, claim.subject)
        case "project":
            return await look_at_project(context, claim.subject)
        case _:
            await clean(context, claim.subject)
            return None


async def _renew(context: Context, claim: Claim) -> None:
    while True:
        await asyncio.sleep(claims.CLAIM_SECONDS / 3)
        with suppress(Exception):
            await claims.renew(context.sessions, claim, context.now())
