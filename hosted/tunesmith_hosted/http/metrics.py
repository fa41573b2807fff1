"""Metrics of the service. Labels are templates of routes: no id, name or key is ever one."""

from __future__ import annotations

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The metrics of one application.

    Attributes:
        in_flight: Requests at this moment.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route")
        self.in_flight = 0
        requests = Counter(
            "tunesmith_hosted_requests_total", "Requests by status", (*labels, "status"), registry=self.registry
        )
        seconds = Histogram(
            "tunesmith_hosted_first_byte_seconds",
            "Seconds until an answer begins",
            labels,
            registry=self.registry,
            buckets=_BUCKETS,
        )
        in_flight = Gauge("tunesmith_hosted_requests_in_flight", "Requests at this moment", registry=self.registry)
        in_flight.set_function(lambda: self.in_flight)
        # Finding them by their labels takes longer than counting.
        self._requests = cache(lambda *values: requests.labels(*values))
        self._seconds = cache(lambda *values: seconds.labels(*values))
        self._kubernetes = Counter(
            "tunesmith_hosted_kubernetes_requests_total",
            "Requests to the Kubernetes API by status",
            ("method", "status"),
            registry=self.registry,
        )

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request, and the seconds until its answer began."""
        self._requests(method, route, str(status)).inc()
        self._seconds(method, route).observe(seconds)

    def count_kubernetes(self, method: str, status: int) -> None:
        """Count a request to the Kubernetes API."""
        self._kubernetes.labels(method, str(status)).inc()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
