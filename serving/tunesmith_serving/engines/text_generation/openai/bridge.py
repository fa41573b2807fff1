"""Passes events from the batcher's thread to coroutines; one wake-up of the loop delivers all pending events."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from tunesmith_serving.engines.text_generation.batching.types import Batcher, Event, GenerationRequest, Ticket


class Generation:
    """The events of one request, as an asynchronous iterator."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self.ticket: Ticket | None = None

    def cancel(self) -> None:
        """Free the slot; the iterator ends with a "cancelled" event."""
        if self.ticket is not None:
            self.ticket.cancel()

    def deliver(self, event: Event) -> None:
        """Add an event; called on the loop's thread."""
        self._events.append(event)
        self._arrived.set()

    async def batches(self) -> AsyncIterator[list[Event]]:
        """Yield lists of new events; the last event has a finish reason."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            events = list(self._events)
            self._events.clear()
            yield events
            if events and events[-1].finish_reason is not None:
                return


class Bridge:
    """Connects a batcher to the running event loop."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._pending: deque[tuple[Generation, Event]] = deque()
        self._scheduled = False

    def submit(self, request: GenerationRequest) -> Generation:
        """Submit a request; raises what `Batcher.submit` raises."""
        loop = asyncio.get_running_loop()
        generation = Generation()

        def sink(event: Event) -> None:
            # The flag is cleared before the deque is emptied, so an event is never left behind.
            self._pending.append((generation, event))
            if self._scheduled:
                return
            self._scheduled = True
            try:
                loop.call_soon_threadsafe(self._flush)
            except RuntimeError:  # the loop is closed: there is no reader any more
                self._pending.clear()

        generation.ticket = self._batcher.submit(request, sink)
        return generation

    def _flush(self) -> None:
        self._scheduled = False
        while self._pending:
            generation, event = self._pending.popleft()
            generation.deliver(event)
