"""Passes events from the batcher's thread to coroutines; one wake-up of the loop delivers all pending events."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from tunesmith_serving.engines.text_generation.batching.types import (
    Batcher,
    Event,
    GenerationRequest,
    QuietSink,
    Ticket,
)


class Generation:
    """The events of requests that were submitted together, as an asynchronous iterator."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.tickets: list[Ticket] = []
        self._events: deque[tuple[int, Event]] = deque()
        self._arrived = asyncio.Event()

    def cancel(self) -> None:
        """Free the slots; each request that has not ended gets a "cancelled" event."""
        for ticket in self.tickets:
            ticket.cancel()

    def deliver(self, index: int, event: Event) -> None:
        """Add an event of one of the requests; called on the loop's thread."""
        self._events.append((index, event))
        self._arrived.set()

    async def batches(self) -> AsyncIterator[list[tuple[int, Event]]]:
        """Yield lists of new events, each with its request's position, until every request has ended."""
        running = self.count
        while running:
            await self._arrived.wait()
            self._arrived.clear()
            events = list(self._events)
            self._events.clear()
            running -= sum(event.finish_reason is not None for _, event in events)
            yield events


class Bridge:
    """Connects a batcher to the running event loop."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending: deque[tuple[Generation, int, Event]] = deque()
        self._scheduled = False

    def submit(self, requests: Sequence[GenerationRequest]) -> Generation:
        """Submit requests together; raises what `Batcher.submit_all` raises."""
        self._loop = asyncio.get_running_loop()
        generation = Generation(len(requests))
        generation.tickets = self._batcher.submit_all(
            [(request, _Sink(self, generation, index)) for index, request in enumerate(requests)]
        )
        return generation

    def add(self, generation: Generation, index: int, event: Event) -> None:
        """Add an event that `wake` delivers; called on the batcher's thread."""
        self._pending.append((generation, index, event))

    def wake(self) -> None:
        """Let the event loop deliver what was added, once for all; called on the batcher's thread."""
        # The flag is cleared before the deque is emptied, so an event is never left behind.
        if self._scheduled or self._loop is None:
            return
        self._scheduled = True
        try:
            self._loop.call_soon_threadsafe(self._flush)
        except RuntimeError:  # the loop is closed: there is no reader any more
            self._pending.clear()

    def _flush(self) -> None:
        self._scheduled = False
        while self._pending:
            generation, index, event = self._pending.popleft()
            generation.deliver(index, event)


class _Sink(QuietSink):
    """Where one request's events go."""

    def __init__(self, bridge: Bridge, generation: Generation, index: int) -> None:
        self._bridge, self._generation, self._index = bridge, generation, index

    def __call__(self, event: Event) -> None:
        self.add(event)
        self._bridge.wake()

    def add(self, event: Event) -> None:
        self._bridge.add(self._generation, self._index, event)

    @property
    def wake(self) -> Callable[[], None]:
        return self._bridge.wake
