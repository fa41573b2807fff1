"""The watched objects in memory, as the newest answer or event about each has told them."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tunesmith_operator.engine.decision import OWNER_KIND, OWNER_NAME, OWNER_UID, Object
from tunesmith_operator.engine.resources import OWNERS

_OWNER_KINDS = frozenset(resource.kind for resource in OWNERS)
_REMEMBERED_DELETIONS = 20_000
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Key(NamedTuple):
    """Names one object."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class ObjectStore:
    """Holds objects by kind, namespace and name, and children by their owner's UID.

    Events of the watches, lists and the answers to the operator's own writes reach it in any order. It keeps the one
    with the highest resourceVersion (which the API server counts up over all kinds of one store), and what was seen
    deleted does not come back by something older, so what is read from it never goes backwards. Its listener hears of
    whatever changes it: the answer to a write may hold what others have written, of which no event will tell again.
    """

    def __init__(self) -> None:
        self.listener: Callable[[Object], None] = lambda obj: None
        """Called with every object that was taken in or out."""
        self._objects: dict[str, dict[str, dict[str, Object]]] = {}
        self._owned: dict[tuple[str, str], dict[str, Object]] = {}
        self._deleted: OrderedDict[str, int] = OrderedDict()

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return an object, or None when there is none."""
        return self._objects.get(kind, {}).get(namespace, {}).get(name)

    def owned(self, kind: str, owner_uid: str) -> list[Object]:
        """Return the objects of a kind that carry the owner label with this value, by name."""
        children = self._owned.get((kind, owner_uid))
        return [children[name] for name in sorted(children)] if children else []

    def all(self, kind: str, namespace: str) -> Iterable[Object]:
        """Return all objects of a kind in a namespace."""
        return list(self._objects.get(kind, {}).get(namespace, {}).values())

    def keys(self, kind: str) -> list[Key]:
        """Return the names of all objects of a kind."""
        spaces = self._objects.get(kind, {})
        return [Key(kind, namespace, name) for namespace, objects in spaces.items() for name in objects]

    def put(self, obj: Object) -> bool:
        """Take an object in, unless a newer one is held or it is known to be deleted.

        Args:
            obj: An object as the API server gave it, with `kind`. It is kept, not copied, and loses what nobody reads.

        Returns:
            Whether it was taken in and differs from what was held.
        """
        metadata = obj["metadata"]
        kind, namespace, name = obj["kind"], metadata.get("namespace", ""), metadata["name"]
        if self._deleted.get(metadata["uid"], -1) >= version(obj):
            return False
        held = self.get(kind, namespace, name)
        if held is not None:
            if version(held) >= version(obj):
                return False
            if held["metadata"]["uid"] != metadata["uid"]:
                self._forget(held)
        _trim(metadata)
        self._objects.setdefault(kind, {}).setdefault(namespace, {})[name] = obj
        owner = (metadata.get("labels") or {}).get(OWNER_UID)
        if held is not None and (before := (held["metadata"].get("labels") or {}).get(OWNER_UID)) not in (None, owner):
            self._disown(kind, before, name)
        if owner:
            self._owned.setdefault((kind, owner), {})[name] = obj
        self.listener(obj)
        if held is not None and owner_of(held) != owner_of(obj):
            self.listener(held)
        return True

    def remove(self, obj: Object, at: int | None = None) -> bool:
        """Take out an object that was deleted, or is no longer chosen by its labels; a newer one of its name stays.

        Args:
            obj: Its last state.
            at: The resourceVersion at which it was not there any more; that of the state by default.

        Returns:
            Whether it was held.
        """
        metadata = obj["metadata"]
        self._deleted[metadata["uid"]] = max(version(obj) if at is None else at, self._deleted.get(metadata["uid"], -1))
        self._deleted.move_to_end(metadata["uid"])
        while len(self._deleted) > _REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)
        held = self.get(obj["kind"], metadata.get("namespace", ""), metadata["name"])
        if held is None or held["metadata"]["uid"] != metadata["uid"]:
            return False
        self._forget(held)
        self.listener(held)
        return True

    def retain(self, kind: str, namespace: str | None, uids: set[str], list_version: int) -> None:
        """Take out what a complete list did not hold.

        Args:
            kind: The kind that was listed.
            namespace: The namespace that was listed; None for all.
            uids: UIDs of what the list held.
            list_version: The list's resourceVersion: what is newer than it is kept.
        """
        gone = [
            obj
            for place, objects in self._objects.get(kind, {}).items()
            if namespace in (None, place)
            for obj in objects.values()
            if obj["metadata"]["uid"] not in uids and version(obj) <= list_version
        ]
        for obj in gone:
            self.remove(obj, list_version)

    def phases(self) -> Iterator[tuple[str, str, int]]:
        """Yield (kind, phase, number) of the two kinds of the API."""
        for kind in sorted(_OWNER_KINDS):
            counts = Counter(
                str((obj.get("status") or {}).get("phase") or "New")
                for objects in self._objects.get(kind, {}).values()
                for obj in objects.values()
            )
            for phase, count in sorted(counts.items()):
                yield kind, phase, count

    def _forget(self, held: Object) -> None:
        metadata = held["metadata"]
        objects = self._objects[held["kind"]][metadata.get("namespace", "")]
        del objects[metadata["name"]]
        if not objects:
            del self._objects[held["kind"]][metadata.get("namespace", "")]
        self._disown(held["kind"], (metadata.get("labels") or {}).get(OWNER_UID), metadata["name"])

    def _disown(self, kind: str, owner_uid: str | None, name: str) -> None:
        if owner_uid is None:
            return
        children = self._owned.get((kind, owner_uid), {})
        children.pop(name, None)
        if not children:
            self._owned.pop((kind, owner_uid), None)


def owner_of(obj: Object) -> Key | None:
    """Return the object that a child's labels name as its owner; None for what is no child."""
    labels = obj["metadata"].get("labels") or {}
    kind, name = labels.get(OWNER_KIND), labels.get(OWNER_NAME)
    if kind not in _OWNER_KINDS or not name or OWNER_UID not in labels:
        return None
    return Key(kind, obj["metadata"].get("namespace", ""), name)


def version(obj: Object) -> int:
    """Return an object's resourceVersion, which is comparable within one API server."""
    return int(obj["metadata"]["resourceVersion"])


def _trim(metadata: Object) -> None:
    metadata.pop("managedFields", None)
    annotations = metadata.get("annotations")
    if annotations and annotations.pop(_LAST_APPLIED, None) is not None and not annotations:
        del metadata["annotations"]
