"""Answers of many requests by the continuous batcher, the same ones each time.

In int4 a token can depend on the other rows of its batch, where two tokens are about equally likely. So all requests
but the first are submitted on the batcher's own thread: then each batch holds the same requests in every run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial

from tunesmith_serving.engines.base import EngineFailedError
from tunesmith_serving.engines.text_generation.batching.collect import Collector
from tunesmith_serving.engines.text_generation.batching.types import Batcher, Completion, Event, GenerationRequest


class Replayer:
    """Keeps the slots of a batcher full until all requests are answered."""

    def __init__(self, batcher: Batcher, requests: Sequence[GenerationRequest], slots: int) -> None:
        self._batcher = batcher
        self._requests = requests
        self._slots = slots
        self._collectors = [Collector() for _ in requests]
        self._errors: dict[int, str] = {}
        self._ended = [threading.Event() for _ in requests]
        self._next = 0
        self._filled = False

    def answers(self) -> Iterator[Completion | str]:
        """Yield the answer of each request, or why there is none, in order."""
        self._submit_next()
        for index, ended in enumerate(self._ended):
            ended.wait()
            if index in self._errors:
                yield self._errors[index]
                continue
            try:
                yield self._collectors[index].result()
            except EngineFailedError as error:
                yield str(error)

    def _submit_next(self) -> None:
        """Submit the next request that the batcher accepts."""
        while self._next < len(self._requests):
            index = self._next
            self._next += 1
            try:
                self._batcher.submit(self._requests[index], partial(self._deliver, index))
                return
            except Exception as error:  # on the batcher's thread, where it would end the other requests
                self._errors[index] = str(error)
                self._ended[index].set()

    def _deliver(self, index: int, event: Event) -> None:
        self._collectors[index](event)
        if not self._filled:
            self._filled = True
            for _ in range(self._slots - 1):
                self._submit_next()
        if event.finish_reason is not None:
            self._ended[index].set()
            self._submit_next()
