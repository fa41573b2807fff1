"""The watched objects in memory, as the newest answer or event about each has told them."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator

from tunesmith_operator.engine.reconciler import Object
from tunesmith_operator.engine.watch.slots import OWNER_KINDS, Key, Shelf, Slot, owner_of

_REMEMBERED_DELETIONS = 20_000
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


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
        self._slots: dict[str, dict[str, dict[str, Slot]]] = {}
        self._owned: dict[tuple[str, str], dict[str, Slot]] = {}
        self._deleted: OrderedDict[str, int] = OrderedDict()
        self._shelf = Shelf()

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return an object, or None when there is none."""
        slot = self._slots.get(kind, {}).get(namespace, {}).get(name)
        return None if slot is None else self._shelf.take(slot)

    def owned(self, kind: str, owner_uid: str) -> list[Object]:
        """Return the objects of a kind that carry the owner label with this value, by name."""
        children = self._owned.get((kind, owner_uid))
        return [self._shelf.take(children[name]) for name in sorted(children)] if children else []

    def all(self, kind: str, namespace: str) -> Iterable[Object]:
        """Return all objects of a kind in a namespace."""
        return [self._shelf.take(slot) for slot in self._slots.get(kind, {}).get(namespace, {}).values()]

    def keys(self, kind: str) -> list[Key]:
        """Return the names of all objects of a kind."""
        return [slot.key for slots in self._slots.get(kind, {}).values() for slot in slots.values()]

    def put(self, obj: Object, is_whole: bool = True) -> bool:
        """Take an object in, unless a newer one is held or it is known to be deleted.

        Args:
            obj: An object as the API server gave it, with `kind`. It is kept, not copied, and loses what nobody reads.
            is_whole: Whether all of it is as the API server gave it, and not only its metadata.

        Returns:
            Whether it was taken in and differs from what was held.
        """
        new = Slot(obj, is_whole)
        if self._deleted.get(new.uid, -1) >= new.version:
            return False
        held = self._held(new)
        if held is not None:
            if (held.version, held.is_whole) >= (new.version, new.is_whole):
                return False
            self._shelf.take(held)
            self._forget(held)
        _trim(obj["metadata"])
        self._slots.setdefault(new.key.kind, {}).setdefault(new.key.namespace, {})[new.key.name] = new
        if new.owner_uid:
            self._owned.setdefault((new.key.kind, new.owner_uid), {})[new.key.name] = new
        self._shelf.take(new)
        self.listener(obj)
        if held is not None and held.obj is not None and owner_of(held.obj) != owner_of(obj):
            self.listener(held.obj)
        return True

    def remove(self, obj: Object, at: int | None = None) -> bool:
        """Take out an object that was deleted, or is no longer chosen by its labels; a newer one of its name stays.

        Args:
            obj: Its last state.
            at: The resourceVersion at which it was not there any more; that of the state by default.

        Returns:
            Whether it was held.
        """
        gone = Slot(obj)
        return self._remove(gone, gone.version if at is None else at)

    def retain(self, kind: str, namespace: str | None, uids: set[str], list_version: int) -> None:
        """Take out what a complete list did not hold.

        Args:
            kind: The kind that was listed.
            namespace: The namespace that was listed; None for all.
            uids: UIDs of what the list held.
            list_version: The list's resourceVersion: what is newer than it is kept.
        """
        gone = [
            slot
            for place, slots in self._slots.get(kind, {}).items()
            if namespace in (None, place)
            for slot in slots.values()
            if slot.uid not in uids and slot.version <= list_version
        ]
        for slot in gone:
            self._remove(slot, list_version)

    def phases(self) -> Iterator[tuple[str, str, int]]:
        """Yield (kind, phase, number) of the two kinds of the API."""
        for kind in sorted(OWNER_KINDS):
            counts = Counter(
                str((self._shelf.take(slot).get("status") or {}).get("phase") or "New")
                for slots in self._slots.get(kind, {}).values()
                for slot in slots.values()
            )
            for phase, count in sorted(counts.items()):
                yield kind, phase, count

    def _held(self, slot: Slot) -> Slot | None:
        return self._slots.get(slot.key.kind, {}).get(slot.key.namespace, {}).get(slot.key.name)

    def _remove(self, gone: Slot, at: int) -> bool:
        self._deleted[gone.uid] = max(at, self._deleted.get(gone.uid, -1))
        self._deleted.move_to_end(gone.uid)
        while len(self._deleted) > _REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)
        held = self._held(gone)
        if held is None or held.uid != gone.uid:
            return False
        obj = self._shelf.take(held)
        self._forget(held)
        self.listener(obj)
        return True

    def _forget(self, held: Slot) -> None:
        kind, namespace, name = held.key
        slots = self._slots[kind][namespace]
        del slots[name]
        if not slots:
            del self._slots[kind][namespace]
        if held.owner_uid:
            children = self._owned[(kind, held.owner_uid)]
            del children[name]
            if not children:
                del self._owned[(kind, held.owner_uid)]
        self._shelf.drop(held)


def _trim(metadata: Object) -> None:
    metadata.pop("managedFields", None)
    annotations = metadata.get("annotations")
    if annotations and annotations.pop(_LAST_APPLIED, None) is not None and not annotations:
        del metadata["annotations"]
