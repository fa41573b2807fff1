"""A job's events as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from tunesmith_hosted.fine_tuning.events import events_after, is_finished
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.wire.fine_tuning import event_object

_POLL_SECONDS = 0.5
_SILENT_POLLS = 30


async def stream_events(context: Context, job_id: str) -> AsyncIterator[str]:
    """Yield the events from the oldest on, until the job has ended, and then `[DONE]`."""
    number, silent = 0, 0
    while True:
        async with context.sessions() as session:
            # Asked before the events: the last ones are written together with the status.
            ended = await is_finished(session, job_id)
            lines = []
            async for event in events_after(session, job_id, number):
                number = event.number
                lines.append(f"data: {json.dumps(event_object(event))}\n\n")
        for line in lines:
            yield line
        if ended:
            yield "data: [DONE]\n\n"
            return
        silent = 0 if lines else silent + 1
        if silent and silent % _SILENT_POLLS == 0:
            yield ": waiting\n\n"  # so that proxies keep the connection
        await asyncio.sleep(_POLL_SECONDS)
