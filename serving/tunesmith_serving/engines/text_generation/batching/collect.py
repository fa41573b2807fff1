"""Waiting for a whole answer without an event loop."""

import threading

from tunesmith_serving.engines.base import EngineFailedError
from tunesmith_serving.engines.text_generation.batching.types import Completion, Event, TokenLogprob


class Collector:
    """An event sink that joins the pieces of one answer."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._text: list[str] = []
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._last: Event | None = None
        self._cached = 0

    def __call__(self, event: Event) -> None:
        """Add one event."""
        self._text.append(event.text)
        self._tokens.extend(event.token_ids)
        self._logprobs.extend(event.logprobs)
        self._cached += event.cached_tokens
        if event.finish_reason is not None:
            self._last = event
            self._done.set()

    def result(self, timeout: float | None = None) -> Completion:
        """Wait for the whole answer and return it.

        Raises:
            EngineFailedError: The generation ended with an error.
            TimeoutError: It is not complete after `timeout` seconds.
        """
        if not self._done.wait(timeout) or self._last is None or self._last.finish_reason is None:
            raise TimeoutError(f"no answer within {timeout} seconds")
        if self._last.finish_reason == "error":
            raise EngineFailedError(self._last.error)
        return Completion(
            "".join(self._text), tuple(self._tokens), self._last.finish_reason, tuple(self._logprobs), self._cached
        )
