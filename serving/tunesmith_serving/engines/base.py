"""The protocol between the server and an engine.

The server owns the process, the socket, health and readiness, authentication, errors and metrics. An engine owns one
kind of model: it loads the artifact, answers requests by routes of its own, and reports what it is doing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from fastapi import APIRouter

    from tunesmith_serving.artifact.opening import Artifact
    from tunesmith_serving.http.context import ServerContext
    from tunesmith_serving.runtime.config import ServingConfig


class EngineFailedError(Exception):
    """The engine has stopped working; the process has to be restarted."""


@dataclass(frozen=True, slots=True)
class Statistic:
    """One value that `/metrics` shows.

    Attributes:
        name: The metric's name, without the `_total` that Prometheus adds to counters.
        description: The metric's help text.
        value: The current value.
        kind: A counter only grows; a gauge goes up and down.
        labels: Names and values; all values of a metric have the same names.
    """

    name: str
    description: str
    value: float
    kind: Literal["counter", "gauge"] = "gauge"
    labels: tuple[tuple[str, str], ...] = ()


class Engine(Protocol):
    """A loaded model that answers requests."""

    @property
    def healthy(self) -> bool:
        """Whether the engine can still compute; Kubernetes restarts the server if it cannot."""

    def warm_up(self, timeout: float) -> None:
        """Compute something small, so that the first request does not pay for the first run.

        Called on a thread of its own; the server becomes ready when it returns.

        Raises:
            EngineFailedError: The model loads but does not run.
            TimeoutError: It has not run within `timeout` seconds.
        """

    def routes(self, context: ServerContext) -> APIRouter:
        """Return the engine's routes, such as `/v1/models`; the server asks for the API key there."""

    def statistics(self) -> Sequence[Statistic]:
        """Return a consistent snapshot for `/metrics`."""

    def start_draining(self) -> None:
        """Refuse new requests; finish those that were accepted."""

    def close(self) -> None:
        """Stop. Requests that are not finished end with an error. Closing twice is harmless."""


@runtime_checkable
class AdapterEngine(Protocol):
    """An engine that answers with adapters beside its model."""

    def adapter_names(self) -> Sequence[str]:
        """Return the names of the adapters that requests can give as their model now."""

    def adapter_report(self) -> dict[str, Any]:
        """Return the answer to `tunesmith_api.contract.ADAPTERS_PATH`."""


Loader = Callable[["Artifact", "ServingConfig"], Engine]
"""Loads a verified artifact; raises ArtifactError or MemoryShortageError if it cannot be served."""
