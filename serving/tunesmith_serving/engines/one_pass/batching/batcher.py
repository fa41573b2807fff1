"""Dynamic batching: a worker thread computes what waits, as soon as the batch before is done."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tunesmith_serving.engines.base import EngineFailedError
from tunesmith_serving.engines.one_pass.batching.queue import Batch, FairQueue
from tunesmith_serving.engines.one_pass.batching.rows import Job, Outputs, Row
from tunesmith_serving.engines.predictor import DrainingError, QueueFullError, TooManyInputsError
from tunesmith_serving.runtime.retry import RetryEstimator

MOST_FAILURES = 3
"""Rows in succession that the model cannot compute, after which the engine is taken for broken."""


class Model(Protocol):
    """What computes."""

    def run(self, rows: Sequence[Row]) -> list[Outputs]:
        """Return the outputs of rows that are computed together."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts since the start, and the current load.

    Attributes:
        rows_running: Rows of the batch that is being computed.
        inputs_open: Inputs of requests that are not answered yet.
        rows: Rows computed.
        tokens: Tokens computed, without padding.
        padding: Padding tokens computed.
        batches: Batches computed.
    """

    rows_running: int
    inputs_open: int
    rows: int
    tokens: int
    padding: int
    batches: int


class Batcher:
    """A model, its queue and its worker thread."""

    def __init__(self, model: Model, max_batch_size: int, max_queue_length: int, max_batch_tokens: int) -> None:
        """Start the worker.

        Args:
            model: What computes.
            max_batch_size: Rows that are computed together.
            max_queue_length: Inputs that may wait besides.
            max_batch_tokens: Tokens that are computed together, unless a single row has more.
        """
        self._model = model
        self._slots = max_batch_size
        self._capacity = max_batch_size + max_queue_length
        self._queue = FairQueue(max_batch_size, max_batch_tokens)
        self._wake = threading.Condition()
        self._retry = RetryEstimator()
        self._running: Batch = []
        self._open = 0
        self._rows = self._tokens = self._padding = self._batches = 0
        self._failures = 0
        self._draining = self._closed = False
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._run, name="tunesmith-engine", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """Whether the worker is alive or was closed normally."""
        return self._failure is None and (self._thread.is_alive() or self._closed)

    def submit(self, inputs: Sequence[Sequence[Row]], sink: Callable[[Job], None]) -> Job:
        """Accept the inputs of a request, all or none; `sink` is called on the worker's thread when they are computed.

        Args:
            inputs: The rows of each input.
            sink: Gets the job with its outputs or its error.

        Raises:
            TooManyInputsError: They would not even fit in an empty queue.
            QueueFullError: Too many others wait.
            DrainingError: The server is shutting down.
            EngineFailedError: The worker has died.
        """
        if len(inputs) > self._capacity:
            raise TooManyInputsError(len(inputs), self._capacity)
        job = Job(inputs, sink)
        with self._wake:
            if self._failure is not None:
                raise EngineFailedError(self._failure)
            if self._draining or self._closed:
                raise DrainingError
            if self._open + len(inputs) > self._capacity:
                wait = self._retry.retry_after(self._open, self._slots)
                raise QueueFullError(f"{self._open} inputs are computed or wait, of at most {self._capacity}", wait)
            self._open += len(inputs)
            self._queue.add(job)
            self._wake.notify()
        return job

    def compute(self, inputs: Sequence[Sequence[Row]], timeout: float | None = None) -> list[list[Outputs]]:
        """Submit inputs and wait for their outputs.

        Raises:
            EngineFailedError: They cannot be computed.
            TimeoutError: It took longer than `timeout` seconds; they are cancelled.
        """
        ended = threading.Event()
        job = self.submit(inputs, lambda _: ended.set())
        if not ended.wait(timeout):
            self.cancel(job)
            raise TimeoutError(f"no answer within {timeout} seconds")
        if job.error is not None:
            raise EngineFailedError(job.error)
        return job.outputs

    def cancel(self, job: Job) -> None:
        """Drop the rows of a job that are not computed yet; its sink is not called. Harmless if it has ended."""
        with self._wake:
            if job.done or job.cancelled:
                return
            job.cancelled = True
            self._queue.remove(job)
            self._open -= job.open_inputs
            self._wake.notify_all()

    def stats(self) -> Stats:
        """Return a consistent snapshot."""
        with self._wake:
            return Stats(len(self._running), self._open, self._rows, self._tokens, self._padding, self._batches)

    def start_draining(self) -> None:
        """Refuse new requests; finish those that were accepted, including the queue."""
        with self._wake:
            self._draining = True

    def close(self) -> None:
        """Stop the worker; requests that are not finished end with an error."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        self._thread.join()

    def _run(self) -> None:
        message = "the server is shutting down"
        try:
            while batch := self._next():
                began = time.monotonic()
                outputs = self._compute(batch)
                self._finish(batch, outputs)
                self._retry.finished(time.monotonic() - began)
        except BaseException as error:
            message = f"the engine failed: {type(error).__name__}: {error}"
            self._failure = message
            raise
        finally:
            with self._wake:
                self._closed = True
                left = {id(job): job for job, _ in self._running} | {id(job): job for job in self._queue.clear()}
                self._running, self._open = [], 0
                self._wake.notify_all()
            for job in left.values():
                if not job.done:
                    job.fail(message)
                    with contextlib.suppress(Exception):
                        job.deliver()

    def _next(self) -> Batch:
        """Wait for rows and return them; none when the batcher is closed."""
        with self._wake:
            self._wake.wait_for(lambda: self._closed or self._queue)
            self._running = [] if self._closed else self._queue.take()
            return self._running

    def _compute(self, batch: Batch) -> list[Outputs | str]:
        """Return the outputs of each row of a batch, or why there are none."""
        rows = [job.row(place) for job, place in batch]
        try:
            found = self._model.run(rows)
        except Exception as error:  # ONNX Runtime has no common base class for its errors
            if len(batch) > 1:  # one row less at a time may still fit in memory
                return [outputs for entry in batch for outputs in self._compute([entry])]
            self._failures += 1
            if self._failures >= MOST_FAILURES:
                raise
            return [f"the model cannot compute this: {type(error).__name__}: {error}"]
        self._failures = 0
        with self._wake:
            tokens = sum(map(len, rows))
            self._rows += len(rows)
            self._tokens += tokens
            self._padding += len(rows) * max(map(len, rows)) - tokens
            self._batches += 1
        return list(found)

    def _finish(self, batch: Batch, outputs: Sequence[Outputs | str]) -> None:
        ended: list[Job] = []
        with self._wake:
            for (job, place), found in zip(batch, outputs, strict=True):
                if job.cancelled or job.done:
                    continue
                before = job.open_inputs
                if isinstance(found, str):
                    self._queue.remove(job)
                    job.fail(found)
                else:
                    job.store(place, found)
                self._open -= before - job.open_inputs
                if job.done:
                    ended.append(job)
            self._running = []
            self._wake.notify_all()
        for job in ended:
            with contextlib.suppress(Exception):  # a submitter that is gone must not end the others
                job.deliver()
