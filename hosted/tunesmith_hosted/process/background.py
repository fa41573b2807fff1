"""What runs beside the routes for as long as the service does; each room adds its own to the tuple."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tunesmith_hosted.http.context import Context
from tunesmith_hosted.reconcile.loop import run as run_reconciler
from tunesmith_hosted.reconcile.watches import run as run_watches

Background = Callable[[Context, asyncio.Event, asyncio.Event], Awaitable[None]]
"""Runs until `stop` is set. `wake` is set when there is work; a poll must find what was asked of other replicas."""

BACKGROUND: tuple[Background, ...] = (run_reconciler, run_watches)

_PAUSE_SECONDS = 1.0
_logger = logging.getLogger(__name__)


async def keep_running(run: Background, context: Context, wake: asyncio.Event, stop: asyncio.Event) -> None:
    """Run something until `stop` is set, and start it again where it fails: the database says what is left to do."""
    while not stop.is_set():
        try:
            await run(context, wake, stop)
        except Exception:
            _logger.exception("%s failed; it starts again in %g s", run.__module__, _PAUSE_SECONDS)
            try:
                async with asyncio.timeout(_PAUSE_SECONDS):
                    await stop.wait()
            except TimeoutError:
                continue
