"""Continuous batching: requests join as soon as a slot is free and leave as soon as they are done.

A worker thread alternates between prefill (one sequence at a time, at most a chunk of tokens) and one decode step of
all live rows. Live rows are kept together at the front of the key-value buffers, so a step computes no unused rows.
Chunks are cut at fixed positions of a prompt and rows do not mix in any kernel, so the tokens of a request do not
depend on the other requests.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable

from tunesmith_serving.engines.base import EngineFailedError
from tunesmith_serving.engines.text_generation.batching.collect import Collector
from tunesmith_serving.engines.text_generation.batching.decoder import OnnxDecoder
from tunesmith_serving.engines.text_generation.batching.delivery import Delivery
from tunesmith_serving.engines.text_generation.batching.sequence import Sequence, check_request
from tunesmith_serving.engines.text_generation.batching.types import (
    BatcherStats,
    Completion,
    DrainingError,
    EventSink,
    GenerationRequest,
    QueueFullError,
    Ticket,
    TooManyRequestsError,
)
from tunesmith_serving.engines.text_generation.text.stream import Decoder


class ContinuousBatcher:
    """A decoder, its slots, its queue and its worker thread."""

    def __init__(
        self, decoder: OnnxDecoder, tokenizer: Decoder, max_queue_length: int, stop_token_ids: frozenset[int]
    ) -> None:
        self._decoder = decoder
        self._tokenizer = tokenizer
        self._stop_token_ids = stop_token_ids
        self._capacity = decoder.slots + max_queue_length
        self._wake = threading.Condition()
        self._queue: deque[Sequence] = deque()
        # Row i of the buffers belongs to _live[i]; the sequence in prefill has the row after them.
        self._live: list[Sequence] = []
        self._prefilling: Sequence | None = None
        self._delivery = Delivery()
        self._draining = False
        self._closed = False
        self._failure: str | None = None
        self._cancelled = False
        self._prompt_tokens = 0
        self._generated_tokens = 0
        self._thread = threading.Thread(target=self._run, name="tunesmith-engine", daemon=True)
        self._thread.start()

    @property
    def context_length(self) -> int:
        """The most tokens of prompt and answer together."""
        return self._decoder.context_length

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        return self._decoder.spec.vocab_size

    @property
    def healthy(self) -> bool:
        """Whether the worker is alive or was closed normally."""
        return self._failure is None and (self._thread.is_alive() or self._closed)

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
            EngineFailedError: The worker has died.
        """
        requests = list(requests)
        for index, (request, _) in enumerate(requests):
            check_request(request, index, self.vocab_size, self.context_length)
        if len(requests) > self._capacity:
            raise TooManyRequestsError(len(requests), self._capacity)
        accepted = [
            Sequence(request, sink, self._tokenizer, self._stop_token_ids, self.context_length, self._on_cancel)
            for request, sink in requests
        ]
        with self._wake:
            if self._failure is not None:
                raise EngineFailedError(self._failure)
            if self._draining or self._closed:
                raise DrainingError
            if self._in_use() + len(self._queue) + len(accepted) > self._capacity:
                raise QueueFullError
            self._queue.extend(accepted)
            self._wake.notify()
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
                slots=self._decoder.slots,
                slots_in_use=self._in_use(),
                queue_length=len(self._queue),
                prompt_tokens=self._prompt_tokens,
                generated_tokens=self._generated_tokens,
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

    def _in_use(self) -> int:
        return len(self._live) + (self._prefilling is not None)

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
                self._prefill()
                self._decode()
        except BaseException as error:
            message = f"the engine failed: {type(error).__name__}: {error}"
            self._failure = message
            raise
        finally:
            with self._wake:
                self._closed = True
                left = [*self._live, *([self._prefilling] if self._prefilling else []), *self._queue]
                self._live, self._prefilling = [], None
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
        if self._prefilling is not None and self._prefilling.cancelled:
            ended = self._prefilling
            self._set_prefilling(None)
            ended.end_cancelled()
        for sequence in [sequence for sequence in self._live if sequence.cancelled]:
            self._release(self._live.index(sequence))
            sequence.end_cancelled()

    def _prefill(self) -> None:
        """Compute up to a chunk of prompt tokens: the rest of a long prompt, or several short prompts."""
        budget = self._decoder.prefill_chunk
        while True:
            sequence = self._prefilling or self._admit()
            if sequence is None:
                return
            start = sequence.filled
            tokens = sequence.prompt[start : start + self._decoder.prefill_chunk]
            if len(tokens) > budget:
                return
            budget -= len(tokens)
            self._delivery.flush()  # tokens of the other requests do not wait for this
            logits = self._decoder.prefill(len(self._live), tokens, start)
            sequence.filled += len(tokens)
            self._prompt_tokens += len(tokens)
            if sequence.filled < len(sequence.prompt):
                continue
            with self._wake:
                self._prefilling = None
                self._live.append(sequence)
            self._generated_tokens += 1
            ended = sequence.accept(logits)
            self._delivery.add([sequence])
            if ended:
                self._release(len(self._live) - 1)
            self._delivery.flush()

    def _admit(self) -> Sequence | None:
        with self._wake:
            if not self._queue or len(self._live) >= self._decoder.slots:
                return None
            self._prefilling = self._queue.popleft()
            return self._prefilling

    def _set_prefilling(self, sequence: Sequence | None) -> None:
        with self._wake:
            self._prefilling = sequence
            self._wake.notify_all()

    def _decode(self) -> None:
        if not self._live:
            return
        logits = self._decoder.decode(
            [sequence.last_token for sequence in self._live], [sequence.filled for sequence in self._live]
        )
        likeliest = logits.argmax(axis=1)
        ended = []
        for row, sequence in enumerate(self._live):
            sequence.filled += 1
            if sequence.accept(logits[row], int(likeliest[row]) if sequence.greedy else None):
                ended.append(row)
        self._generated_tokens += len(self._live)
        self._delivery.add(self._live)
        for row in reversed(ended):
            self._release(row)
        if ended or self._delivery.is_due():
            self._delivery.flush()

    def _release(self, row: int) -> None:
        """Remove a row: the last live row takes its place, and the row in prefill follows."""
        last = len(self._live) - 1
        if row != last:
            self._decoder.move(last, row, self._live[last].filled)
        if self._prefilling is not None:
            self._decoder.move(last + 1, last, self._prefilling.filled)
        with self._wake:
            self._live[row] = self._live[last]
            self._live.pop()
            self._wake.notify_all()
