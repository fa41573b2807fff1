"""The contract between the engine and a reconciler: objects in, a `Decision` out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

KubeObject = dict[str, Any]
"""A Kubernetes object as the API server has it (`managedFields` removed), or as it is to be applied."""


@dataclass(frozen=True)
class ObjectRef:
    """A reference to an object in the namespace of the reconciled object.

    Attributes:
        kind: `Job`, `Pod`, `PersistentVolumeClaim`, `Deployment`, `Service`, ...
        name: Its name.
    """

    kind: str
    name: str


@dataclass(frozen=True)
class EventSpec:
    """An Event about the reconciled object, posted after the status of the same decision was written.

    Attributes:
        type: `Normal` or `Warning`.
        reason: One word in CamelCase.
        message: What happened, for people.
    """

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Annotation:
    """An annotation of a child that exists, such as a pod that another controller has made.

    Attributes:
        ref: The child.
        name: Name of the annotation.
        value: Its value.
    """

    ref: ObjectRef
    name: str
    value: str


@dataclass(frozen=True)
class Decision:
    """The desired state. The engine writes the status if it differs, then the children that differ.

    Attributes:
        status: The object's whole status except `progress`; None to leave it unchanged.
        apply: Children that are kept as given here, by server-side apply (field manager `tunesmith`).
        create: Children that are created if absent and never written again (Jobs: Kueue writes in them).
        delete: Children to delete, with their dependents (background propagation).
        annotate: Annotations to set, after everything else was written without a refusal.
        events: Events to post, once, with the change of status.
        requeue_after: Seconds after which to reconcile again even if nothing happens; None for never.
    """

    status: KubeObject | None = None
    apply: tuple[KubeObject, ...] = ()
    create: tuple[KubeObject, ...] = ()
    delete: tuple[ObjectRef, ...] = ()
    annotate: tuple[Annotation, ...] = ()
    events: tuple[EventSpec, ...] = ()
    requeue_after: float | None = None


@dataclass(frozen=True)
class ApplyError:
    """The API server's answer to the last attempt to write a child, when it refused.

    Attributes:
        ref: The child.
        status: The HTTP status, such as 403 (quota, policy) or 422 (invalid).
        reason: The API's reason, such as `Forbidden`.
        message: The API's own words.
    """

    ref: ObjectRef
    status: int
    reason: str
    message: str


class Store(Protocol):
    """The newest known objects of the watched namespaces. Callers must not change what is returned."""

    def get(self, kind: str, namespace: str, name: str) -> KubeObject | None:
        """Return an object, or None when there is none."""

    def owned(self, kind: str, owner_uid: str) -> list[KubeObject]:
        """Return the objects of a kind that carry the label `tunesmith.dev/owner-uid` with this value, by name."""

    def all(self, kind: str, namespace: str) -> Iterable[KubeObject]:
        """Return all objects of a kind in a namespace (the two kinds of the API, and children with the owner label)."""


class Api(Protocol):
    """Reads straight from the API server, for the few objects that are not watched."""

    async def read(self, kind: str, namespace: str, name: str) -> KubeObject | None:
        """Return an object (without a Secret's or ConfigMap's data), or None when it is absent or may not be read."""

    async def own_config_map(self, namespace: str, name: str) -> KubeObject | None:
        """Return a ConfigMap that the operator itself has made, with its data; None when it is absent."""

    async def events(self, kind: str, namespace: str, name: str) -> list[KubeObject]:
        """Return the newest events about an object, oldest first: why a Job gets no pod."""

    async def pod_events(self, namespace: str, pod: str) -> list[KubeObject]:
        """Return the newest events about a pod, oldest first: why a volume is not mounted, why it is not scheduled."""


@dataclass(frozen=True)
class Context:
    """What a reconciler gets besides the object itself.

    Attributes:
        store: The watched objects.
        api: Reads objects that are not watched.
        errors: Children of this object that the API server refused last time; empty if all were written.
    """

    store: Store
    api: Api
    errors: tuple[ApplyError, ...] = field(default=())


class Reconciler(Protocol):
    """The logic of one kind. `reconcile` gathers the observed state and returns the decision of a pure `decide`."""

    kind: str

    async def reconcile(self, obj: KubeObject, context: Context) -> Decision:
        """Return the decision about an object that exists (it may have a deletionTimestamp)."""

    def map_to_names(self, kind: str, obj: KubeObject, store: Store) -> list[str]:
        """Return the names of this kind's objects, in the namespace of `obj`, to reconcile when `obj` changes.

        Called for objects that are not children of this kind: a FineTuneJob that a workspace follows.
        """
