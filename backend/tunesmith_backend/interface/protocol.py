"""The protocol that all backends implement."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from tunesmith_api.manifests import Finding, Manifests
from tunesmith_api.objects import FineTuneJob, InferenceWorkspace
from tunesmith_api.work_folder import Stage

Kind = Literal["FineTuneJob", "InferenceWorkspace"]
Object = dict[str, Any]

DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True)
class ObjectRef:
    """Identifies an object.

    Attributes:
        kind: `FineTuneJob` or `InferenceWorkspace`.
        name: Its name.
        namespace: Its namespace.
    """

    kind: Kind
    name: str
    namespace: str = DEFAULT_NAMESPACE

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def ref_of(item: FineTuneJob | InferenceWorkspace) -> ObjectRef:
    """Return the reference of an object."""
    return ObjectRef(item.kind, item.metadata.name, item.metadata.namespace or DEFAULT_NAMESPACE)


class Backend(Protocol):
    """Stores objects, runs them, and reports their status.

    Objects are dictionaries as the Kubernetes API has them: apiVersion, kind, metadata, spec, status. All methods that
    take a reference raise BackendError of kind NOT_FOUND when there is no such object.
    """

    async def validate(self, manifests: Manifests) -> list[Finding]:
        """Return what this backend would refuse, in addition to the findings of the manifests. Changes nothing."""

    async def apply(self, manifests: Manifests) -> list[ObjectRef]:
        """Create or update the objects, and return their references. They run in the background.

        Raises:
            BackendError: An object is refused, because it is invalid or changes what cannot change. Nothing is written.
        """

    async def get(self, ref: ObjectRef) -> Object:
        """Return an object."""

    async def list(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        """Return the objects of a kind, sorted by namespace and name; by default, of all namespaces."""

    async def suspend(self, ref: ObjectRef, suspended: bool = True) -> Object:
        """Suspend a job, or resume it, and return it.

        Raises:
            BackendError: It is not a job.
        """

    async def delete(self, ref: ObjectRef) -> None:
        """Stop and delete an object."""

    def watch(self, ref: ObjectRef) -> AsyncIterator[Object]:
        """Yield an object now and whenever it changes. Ends when the object is deleted."""

    def logs(self, ref: ObjectRef, stage: Stage | None = None, *, follow: bool = False) -> AsyncIterator[str]:
        """Yield the lines that the processes of an object have printed.

        Args:
            ref: The object.
            stage: Only the lines of this stage, for a job.
            follow: Keep yielding new lines while the processes run.
        """

    async def endpoint(self, ref: ObjectRef) -> str | None:
        """Return the base URL of a workspace for an OpenAI client, None while it serves nothing."""

    def folder(self, ref: ObjectRef) -> Path | None:
        """Return the work folder of an object, whether it exists or not; None where it is not on this machine."""

    async def close(self) -> None:
        """Stop the processes that this backend runs itself, and close connections."""
