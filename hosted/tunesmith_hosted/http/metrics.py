"""Metrics of the service. Labels are templates of routes: no id, name or key is ever one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route")
        self.requests = Counter(
            "tunesmith_hosted_requests_total", "Requests by status", (*labels, "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "tunesmith_hosted_first_byte_seconds",
            "Seconds until an answer begins",
            labels,
            registry=self.registry,
            buckets=_BUCKETS,
        )
        self.in_flight = Gauge("tunesmith_hosted_requests_in_flight", "Requests at this moment", registry=self.registry)
        self._kubernetes = Counter(
            "tunesmith_hosted_kubernetes_requests_total",
            "Requests to the Kubernetes API by status",
            ("method", "status"),
            registry=self.registry,
        )

    def count_kubernetes(self, method: str, status: int) -> None:
        """Count a request to the Kubernetes API."""
        self._kubernetes.labels(method, str(status)).inc()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
