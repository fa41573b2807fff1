"""What a reconciler decides: the children that must be there, the status, and when to look again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Object = dict[str, Any]
"""A Kubernetes object as the API server has it (`managedFields` removed), or as it is to be applied."""


@dataclass(frozen=True)
class Ref:
    """One object in the namespace of the object that is reconciled.

    Attributes:
        kind: `Job`, `Pod`, `PersistentVolumeClaim`, `Deployment`, `Service`, ...
        name: Its name.
    """

    kind: str
    name: str


@dataclass(frozen=True)
class Note:
    """An Event about the object that is reconciled, posted when the status that it comes with is written.

    Attributes:
        type: `Normal` or `Warning`.
        reason: One word in CamelCase.
        message: What happened, for people.
    """

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Decision:
    """What must be. The engine writes the status when it differs, then applies the children that differ.

    Attributes:
        status: The object's whole status, `progress` aside; None to leave it as it is.
        apply: Children that are kept as they are given here, by server-side apply (field manager `tunesmith`).
        create: Children that are made once when they are absent and never written again (Jobs: Kueue writes in them).
        delete: Children to delete, with what they own (background propagation).
        events: What to tell people; posted once, with the status change.
        requeue_after: Seconds after which to decide again although nothing has happened; None for never.
    """

    status: Object | None = None
    apply: tuple[Object, ...] = ()
    create: tuple[Object, ...] = ()
    delete: tuple[Ref, ...] = ()
    events: tuple[Note, ...] = ()
    requeue_after: float | None = None


@dataclass(frozen=True)
class ApplyError:
    """What the API server answered to the last attempt to write a child.

    Attributes:
        ref: The child.
        status: The HTTP status, such as 403 (quota, policy) or 422 (invalid).
        reason: The API's reason, such as `Forbidden`.
        message: The API's own words.
    """

    ref: Ref
    status: int
    reason: str
    message: str


class Store(Protocol):
    """The objects of the watched namespaces, as the watches have last told them. Nothing returned is to be changed."""

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return an object, or None when there is none."""

    def owned(self, kind: str, owner_uid: str) -> list[Object]:
        """Return the objects of a kind that carry the label `tunesmith.dev/owner-uid` with this value, by name."""

    def all(self, kind: str, namespace: str) -> Iterable[Object]:
        """Return all objects of a kind in a namespace (the two kinds of the API, and children with the owner label)."""


class Api(Protocol):
    """Reads straight from the API server, for the few facts that are not watched."""

    async def read(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return an object (without a Secret's or ConfigMap's data), or None when it is absent or may not be read."""

    async def events(self, kind: str, namespace: str, name: str) -> list[Object]:
        """Return the newest events about an object, oldest first: why a Job gets no pod."""

    async def pod_events(self, namespace: str, pod: str) -> list[Object]:
        """Return the newest events about a pod, oldest first: why a volume is not mounted, why it is not scheduled."""


@dataclass(frozen=True)
class Context:
    """What a reconciler is given beside the object itself.

    Attributes:
        store: The watched objects.
        api: Reads of what is not watched.
        errors: What the API server answered to this object's children last time, empty when all were written.
    """

    store: Store
    api: Api
    errors: tuple[ApplyError, ...] = field(default=())


class Reconciler(Protocol):
    """One kind's logic. `reconcile` gathers facts and returns what a pure `decide` makes of them."""

    kind: str

    async def reconcile(self, obj: Object, context: Context) -> Decision:
        """Return what must be, for an object that exists (it may carry a deletionTimestamp)."""

    def wakes(self, kind: str, obj: Object, store: Store) -> list[str]:
        """Return the names of this kind's objects, in the namespace of `obj`, that another object concerns.

        Called for objects that carry no owner label of this kind: a FineTuneJob that a workspace follows.
        """
