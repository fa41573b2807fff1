"""Prometheus metrics of one server, in a registry of its own."""

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith_serving.engine.types import Event, GenerationEngine

ROUTES = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/models", "/healthz", "/readyz", "/metrics"})
FIRST_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
PER_TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1)


class _EngineCollector(Collector):
    """Reads the engine's counters when they are asked for."""

    def __init__(self, engine: GenerationEngine) -> None:
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        """Current values."""
        stats = self._engine.stats()
        yield CounterMetricFamily("tunesmith_prompt_tokens", "Prompt tokens computed.", value=stats.prompt_tokens)
        yield CounterMetricFamily("tunesmith_generated_tokens", "Tokens generated.", value=stats.generated_tokens)
        yield GaugeMetricFamily("tunesmith_queue_length", "Requests waiting for a slot.", value=stats.queue_length)
        yield GaugeMetricFamily("tunesmith_slots_in_use", "Slots that hold a request.", value=stats.slots_in_use)
        yield GaugeMetricFamily("tunesmith_slots", "Slots there are.", value=stats.slots)


class Metrics:
    """The registry and what requests record in it."""

    def __init__(self, engine: GenerationEngine) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_EngineCollector(engine))
        self._requests = Counter(
            "tunesmith_requests", "HTTP requests by route and status code.", ["route", "code"], registry=self.registry
        )
        self._first_token = Histogram(
            "tunesmith_time_to_first_token_seconds",
            "From the arrival of a request to its first token.",
            buckets=FIRST_TOKEN_BUCKETS,
            registry=self.registry,
        )
        self._per_token = Histogram(
            "tunesmith_time_per_output_token_seconds",
            "Mean time between tokens of a request after its first.",
            buckets=PER_TOKEN_BUCKETS,
            registry=self.registry,
        )

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def count(self, path: str, code: int) -> None:
        """Record one HTTP request; unknown paths share a label so that they cannot fill the memory."""
        route = path if path in ROUTES else "/v1/models/{model}" if path.startswith("/v1/models/") else "other"
        self._requests.labels(route, str(code)).inc()

    def timer(self) -> "TokenTimer":
        """A timer for a request that has just arrived."""
        return TokenTimer(self._first_token, self._per_token)


class TokenTimer:
    """Times the tokens of one request."""

    def __init__(self, first_token: Histogram, per_token: Histogram) -> None:
        self._first_token = first_token
        self._per_token = per_token
        self._arrived = time.perf_counter()
        self._first: float | None = None
        self._tokens = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the arrival."""
        return time.perf_counter() - self._arrived

    def record(self, event: Event) -> None:
        """Take one event; the last one records the mean time between tokens."""
        now = time.perf_counter()
        self._tokens += len(event.token_ids)
        if self._first is None and self._tokens:
            self._first = now
            self._first_token.observe(now - self._arrived)
        if event.finish_reason in ("stop", "length") and self._first is not None and self._tokens > 1:
            self._per_token.observe((now - self._first) / (self._tokens - 1))


class RequestCounter:
    """ASGI middleware that counts answers by route and code; a client that left before one counts as 499."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, remembering the status."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        code = 499

        async def watched(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._metrics.count(scope["path"], code)
