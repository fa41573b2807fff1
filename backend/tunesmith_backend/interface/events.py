"""Events that a backend emits while it runs objects, for a client to show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith_api.failures import Reason
from tunesmith_api.work_folder import Stage
from tunesmith_backend.interface.protocol import ObjectRef


@dataclass(frozen=True)
class Event:
    """An event about an object.

    Attributes:
        ref: The object.
    """

    ref: ObjectRef


@dataclass(frozen=True)
class ClusterOnlyFields(Event):
    """Fields are set that have an effect only in a cluster."""

    fields: tuple[str, ...]


@dataclass(frozen=True)
class SecretsAreVariables(Event):
    """The spec names Secrets. On one machine, environment variables take their place."""

    secrets: tuple[str, ...]


@dataclass(frozen=True)
class Suspended(Event):
    """The job is suspended, so nothing is run."""


@dataclass(frozen=True)
class Planned(Event):
    """What the job needs and how it will train, as in a status's `plan`.

    Attributes:
        plan: The plan.
        note: How the data is known, for a plan that was made before the data is prepared; empty after that.
    """

    plan: Mapping[str, Any]
    note: str = ""


@dataclass(frozen=True)
class StageStarted(Event):
    """A stage begins."""

    stage: Stage


@dataclass(frozen=True)
class Retryable(Event):
    """A stage failed, and another attempt may succeed."""

    reason: Reason


@dataclass(frozen=True)
class Failed(Event):
    """The job failed for good; the status file has the details."""

    reason: Reason
    status_file: Path


@dataclass(frozen=True)
class Succeeded(Event):
    """The job is complete.

    Attributes:
        artifact: URI of the artifact.
        metrics: Quality before and after training.
        plan: What was planned, as in a status's `plan`.
        measured: What the stages took, as in a status's `measured`.
    """

    artifact: str
    metrics: Mapping[str, Any]
    plan: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fetching(Event):
    """The artifact of a workspace is being downloaded."""

    uri: str


@dataclass(frozen=True)
class Serving(Event):
    """The server of a workspace is ready."""

    endpoint: str


@dataclass(frozen=True)
class AdapterChanged(Event):
    """A server has loaded an adapter, cannot load it, or serves it no longer.

    Attributes:
        name: Name of the adapter.
        state: `Loaded`, `Failed` or `Gone`.
        message: Why it is not loaded.
    """

    name: str
    state: str
    message: str = ""


@dataclass(frozen=True)
class ScaledToZero(Event):
    """The workspace has `replicas: 0`, so nothing is served."""


@dataclass(frozen=True)
class ServerEnded(Event):
    """The server of a workspace ended by itself."""

    code: int | None


@dataclass(frozen=True)
class Refused(Event):
    """The object cannot be run. The message says why, and what to do."""

    message: str


Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Ignore an event."""
