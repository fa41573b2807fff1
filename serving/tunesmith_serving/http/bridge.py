"""Events from the engine's thread to coroutines, with one wake-up of the loop for all that has come meanwhile."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from tunesmith_serving.engine.types import Event, GenerationEngine, GenerationRequest, Ticket


class Generation:
    """One request's events as an asynchronous iterator of what has come since the last look."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self.ticket: Ticket | None = None

    def cancel(self) -> None:
        """Give the slot back; the iterator ends with a "cancelled" event."""
        if self.ticket is not None:
            self.ticket.cancel()

    def deliver(self, event: Event) -> None:
        """Called on the loop's thread."""
        self._events.append(event)
        self._arrived.set()

    async def batches(self) -> AsyncIterator[list[Event]]:
        """Lists of new events, up to and with the one that has a finish reason."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            events = list(self._events)
            self._events.clear()
            yield events
            if events and events[-1].finish_reason is not None:
                return


class Bridge:
    """Connects an engine to the running event loop."""

    def __init__(self, engine: GenerationEngine) -> None:
        self._engine = engine
        self._pending: deque[tuple[Generation, Event]] = deque()
        self._scheduled = False

    def submit(self, request: GenerationRequest) -> Generation:
        """Hand a request to the engine; raises what `GenerationEngine.submit` raises."""
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
            except RuntimeError:  # the loop is closed: nobody listens any more
                self._pending.clear()

        generation.ticket = self._engine.submit(request, sink)
        return generation

    def _flush(self) -> None:
        self._scheduled = False
        while self._pending:
            generation, event = self._pending.popleft()
            generation.deliver(event)
