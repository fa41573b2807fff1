"""Prometheus histograms of how fast tokens come."""

import time

from prometheus_client import CollectorRegistry, Histogram

from tunesmith_serving.engines.text_generation.batching.types import Event

FIRST_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
PER_TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1)


class TokenMetrics:
    """The histograms, in the server's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._first_token = Histogram(
            "tunesmith_time_to_first_token_seconds",
            "From the arrival of a request to its first token.",
            buckets=FIRST_TOKEN_BUCKETS,
            registry=registry,
        )
        self._per_token = Histogram(
            "tunesmith_time_per_output_token_seconds",
            "Mean time between tokens of a request after its first.",
            buckets=PER_TOKEN_BUCKETS,
            registry=registry,
        )

    def timer(self, arrived: float) -> "TokenTimer":
        """Return a timer for one answer to a request that arrived at `time.perf_counter()` = `arrived`."""
        return TokenTimer(self._first_token, self._per_token, arrived)


class TokenTimer:
    """Times the tokens of one answer."""

    def __init__(self, first_token: Histogram, per_token: Histogram, arrived: float) -> None:
        self._first_token = first_token
        self._per_token = per_token
        self._arrived = arrived
        self._first: float | None = None
        self._tokens = 0

    def record(self, event: Event) -> None:
        """Record one event; the last one observes the mean time between tokens."""
        now = time.perf_counter()
        self._tokens += len(event.token_ids)
        if self._first is None and self._tokens:
            self._first = now
            self._first_token.observe(now - self._arrived)
        if event.finish_reason in ("stop", "length") and self._first is not None and self._tokens > 1:
            self._per_token.observe((now - self._first) / (self._tokens - 1))
