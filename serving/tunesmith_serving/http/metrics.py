"""Prometheus metrics of one server, in a registry of its own."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith_serving.engines.base import Engine
from tunesmith_serving.http.body import CLIENT_LEFT


class _EngineCollector(Collector):
    """Reads the engine's statistics at each scrape."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        """Yield the current values."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for statistic in self._engine.statistics():
            if statistic.name not in families:
                kind = CounterMetricFamily if statistic.kind == "counter" else GaugeMetricFamily
                names = [name for name, _ in statistic.labels]
                families[statistic.name] = kind(statistic.name, statistic.description, labels=names)
            families[statistic.name].add_metric([value for _, value in statistic.labels], statistic.value)
        yield from families.values()


class Metrics:
    """The registry, and the counter of requests in it."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_EngineCollector(engine))
        self._requests = Counter(
            "tunesmith_requests", "HTTP requests by route and status code.", ["route", "code"], registry=self.registry
        )

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def count(self, route: str, code: int) -> None:
        """Record one HTTP request."""
        self._requests.labels(route, str(code)).inc()


class RouteLabels:
    """The label of a request's route; unknown paths share one, so that they cannot fill the memory."""

    def __init__(self, paths: Iterable[str]) -> None:
        """Collect the labels of the routes' paths, which may hold parameters."""
        paths = tuple(paths)
        self._exact = frozenset(path for path in paths if "{" not in path)
        self._patterns = tuple((compile_path(path)[0], path.replace(":path}", "}")) for path in paths if "{" in path)

    def of(self, path: str) -> str:
        """Return the label for the path of a request."""
        if path in self._exact:
            return path
        return next((label for pattern, label in self._patterns if pattern.match(path)), "other")


class RequestCounter:
    """ASGI middleware that counts responses by route and code; 499 means that the client left before a response."""

    def __init__(self, app: ASGIApp, metrics: Metrics, labels: RouteLabels) -> None:
        self._app = app
        self._metrics = metrics
        self._labels = labels

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request and count its status code."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        code = CLIENT_LEFT

        async def watched(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:  # its response is made outside of this
            code = 500 if code == CLIENT_LEFT else code
            raise
        finally:
            self._metrics.count(self._labels.of(scope["path"]), code)
