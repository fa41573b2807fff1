"""The thread that computes the requests of a queue: what accepting, cancelling, draining and failing have in common."""

import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable

from tunesmith_serving.engines.base import EngineFailedError
from tunesmith_serving.engines.text_generation.batching.collect import Collector
from tunesmith_serving.engines.text_generation.batching.delivery import Delivery
from tunesmith_serving.engines.text_generation.batching.sequence import Sequence
from tunesmith_serving.engines.text_generation.batching.speculation.stats import SpeculationStats
from tunesmith_serving.engines.text_generation.batching.types import (
    BatcherStats,
    CacheStats,
    Completion,
    DrainingError,
    EventSink,
    GenerationRequest,
    QueueFullError,
    Ticket,
    TooManyRequestsError,
)


class QueueWorker(ABC):
    """A queue of requests and the thread that works on it; how requests share the model's steps is the subclass's."""

    def __init__(self, slots: int, max_queue_length: int) -> None:
        """Make an empty queue; `start` starts the thread.

        Args:
            slots: Requests that are computed at the same time.
            max_queue_length: Requests that may wait besides.
        """
        self._slots = slots
        self._capacity = slots + max_queue_length
        self._wake = threading.Condition()
        self._queue: deque[Sequence] = deque()
        self._delivery = Delivery()
        self._draining = False
        self._closed = False
        self._failure: str | None = None
        self._cancelled = False
        self._prompt_tokens = 0
        self._generated_tokens = 0
        self._thread = threading.Thread(target=self._run, name="tunesmith-engine", daemon=True)

    def start(self) -> None:
        """Start the thread: a subclass calls this when all that it works with is there."""
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """Whether the worker is alive or was closed normally."""
        return self._failure is None and (self._thread.is_alive() or self._closed)

    @property
    def capacity(self) -> int:
        """The most requests that are computed or wait."""
        return self._capacity

    def submit(self, request: GenerationRequest, sink: EventSink) -> Ticket:
        """Accept a request; `sink` is called on the worker's thread, the last time with a finish reason.

        Raises what `submit_all` raises.
        """
        return self.submit_all([(request, sink)])[0]

    def submit_all(self, requests: Iterable[tuple[GenerationRequest, EventSink]]) -> list[Ticket]:
        """Accept all of these requests or none.

        Raises:
            QueueFullError: No slot is free and the queue is full.
            TooManyRequestsError: They are more than the slots and the queue hold.
            DrainingError: The server is shutting down.
            PromptTooLongError: A prompt leaves no room for an answer.
            InvalidRequestError: A prompt is empty, or a token id is not in the vocabulary.
            UnknownAdapterError: The adapter of a request is not loaded.
            EngineFailedError: The worker has died.
        """
        requests = list(requests)
        for index, (request, _) in enumerate(requests):
            self._check(request, index)
        if len(requests) > self._capacity:
            raise TooManyRequestsError(len(requests), self._capacity)
        accepted = [self._sequence(request, sink) for request, sink in requests]
        with self._wake:
            if self._failure is not None:
                raise EngineFailedError(self._failure)
            if self._draining or self._closed:
                raise DrainingError
            if self._in_use() + len(self._queue) + len(accepted) > self._capacity:
                raise QueueFullError
            self._queue.extend(accepted)
            self._wake.notify()
        for request, _ in requests:
            self._count(request)
        return list[Ticket](accepted)

    def generate(self, request: GenerationRequest, timeout: float | None = None) -> Completion:
        """Submit a request and return its whole answer.

        Raises:
            EngineFailedError: The generation ended with an error.
            TimeoutError: It took longer than `timeout` seconds; the request is cancelled.
        """
        collector = Collector()
        ticket = self.submit(request, collector)
        try:
            return collector.result(timeout)
        except TimeoutError:
            ticket.cancel()
            raise

    def stats(self) -> BatcherStats:
        """Return a consistent snapshot."""
        with self._wake:
            return BatcherStats(
                slots=self._slots,
                slots_in_use=self._in_use(),
                queue_length=len(self._queue),
                prompt_tokens=self._prompt_tokens,
                generated_tokens=self._generated_tokens,
                cache=self._cache_stats(),
                speculation=self._speculation_stats(),
            )

    def start_draining(self) -> None:
        """Refuse new requests; finish those that were accepted, including the queue."""
        with self._wake:
            self._draining = True
            self._wake.notify()

    def drain(self, timeout: float | None = None) -> bool:
        """Refuse new requests and wait for the others; return whether all have finished within `timeout` seconds."""
        self.start_draining()
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._wake:
            return self._wake.wait_for(
                lambda: self._failure is not None or not (self._in_use() or self._queue),
                None if deadline is None else max(0.0, deadline - time.monotonic()),
            )

    def close(self) -> None:
        """Stop the worker; requests that are not finished end with an error."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        self._thread.join()

    @abstractmethod
    def _check(self, request: GenerationRequest, index: int) -> None:
        """Raise InvalidRequestError for a request that the model cannot compute."""

    @abstractmethod
    def _sequence(self, request: GenerationRequest, sink: EventSink) -> Sequence:
        """Return the state of a new request; its `on_cancel` is `_on_cancel`."""

    def _count(self, request: GenerationRequest) -> None:
        """Count a request that was taken, by its adapter if there are any."""
        del request

    @abstractmethod
    def _in_use(self) -> int:
        """Return how many requests are being computed; called with `_wake` held."""

    def _cache_stats(self) -> CacheStats | None:
        """Return what keys and values take, if they are kept; called with `_wake` held."""
        return None

    def _speculation_stats(self) -> SpeculationStats | None:
        """Return what became of drafts, if there are any; called with `_wake` held."""
        return None

    @abstractmethod
    def _step(self) -> None:
        """Admit what fits and compute one step."""

    @abstractmethod
    def _remove_cancelled(self) -> list[Sequence]:
        """Remove the requests that are being computed and cancelled, and return them."""

    @abstractmethod
    def _remove_all(self) -> list[Sequence]:
        """Remove all requests that are being computed, and return them; called with `_wake` held."""

    def _on_cancel(self, sequence: Sequence) -> None:
        with self._wake:
            if sequence in self._queue:
                self._queue.remove(sequence)
            else:
                # The worker owns its row: it ends the request between two steps.
                self._cancelled = True
                return
            self._wake.notify_all()
        sequence.end_cancelled()

    def _run(self) -> None:
        message = "the server is shutting down"
        try:
            while self._wait_for_work():
                self._drop_cancelled()
                self._step()
        except BaseException as error:
            message = f"the engine failed: {type(error).__name__}: {error}"
            self._failure = message
            raise
        finally:
            with self._wake:
                self._closed = True
                left = [*self._remove_all(), *self._queue]
                self._queue.clear()
                self._wake.notify_all()
            # If one sink broke the worker, the other requests must still get their last event.
            self._delivery.flush_all()
            for sequence in left:
                with contextlib.suppress(Exception):
                    sequence.fail(message)

    def _wait_for_work(self) -> bool:
        with self._wake:
            self._wake.wait_for(lambda: self._closed or self._in_use() or self._queue)
            return not self._closed

    def _drop_cancelled(self) -> None:
        if not self._cancelled:
            return
        self._cancelled = False
        self._delivery.flush()
        for sequence in self._remove_cancelled():
            sequence.end_cancelled()
