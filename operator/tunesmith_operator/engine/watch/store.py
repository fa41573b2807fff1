"""The watched objects in memory: the newest version of each, from any event, list or answer."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator

from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.engine.watch.cache import OWNER_KINDS, CacheEntry, CompressedCache, Key, owner_of

_REMEMBERED_DELETIONS = 20_000
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class ObjectStore:
    """Holds objects by kind, namespace and name, and children by their owner's UID.

    Events of the watches, lists and the answers to the operator's own writes arrive in any order. The store keeps the
    version with the highest resourceVersion (which increases over all kinds of one API server), and an older version
    does not bring back a deleted object, so reads never go backwards in time. The listener is called for every change:
    the answer to a write may contain changes by others, for which no further event follows.
    """

    def __init__(self, cache: CompressedCache | None = None) -> None:
        self.listener: Callable[[KubeObject], None] = lambda obj: None
        """Called with every object that was added, changed or removed."""
        self._entries: dict[str, dict[str, dict[str, CacheEntry]]] = {}
        self._owned: dict[tuple[str, str], dict[str, CacheEntry]] = {}
        self._deleted: OrderedDict[str, int] = OrderedDict()
        self._cache = cache or CompressedCache()

    def get(self, kind: str, namespace: str, name: str) -> KubeObject | None:
        """Return an object, or None when there is none."""
        entry = self._entries.get(kind, {}).get(namespace, {}).get(name)
        return None if entry is None else self._cache.take(entry)

    def owned(self, kind: str, owner_uid: str) -> list[KubeObject]:
        """Return the objects of a kind that carry the owner label with this value, by name."""
        children = self._owned.get((kind, owner_uid))
        return [self._cache.take(children[name]) for name in sorted(children)] if children else []

    def all(self, kind: str, namespace: str) -> Iterable[KubeObject]:
        """Return all objects of a kind in a namespace."""
        return [self._cache.take(entry) for entry in self._entries.get(kind, {}).get(namespace, {}).values()]

    def keys(self, kind: str) -> list[Key]:
        """Return the names of all objects of a kind."""
        return [entry.key for entries in self._entries.get(kind, {}).values() for entry in entries.values()]

    def put(self, obj: KubeObject, is_whole: bool = True) -> bool:
        """Store an object, unless a newer version is stored or it is known to be deleted.

        Args:
            obj: An object from the API server, with `kind`. It is kept, not copied, and loses fields that nobody reads.
            is_whole: Whether all of it comes from the API server, not only its metadata.

        Returns:
            Whether it was stored.
        """
        new = CacheEntry(obj, is_whole)
        if self._deleted.get(new.uid, -1) >= new.version:
            return False
        held = self._held(new)
        if held is not None:
            if (held.version, held.is_whole) >= (new.version, new.is_whole):
                return False
            self._cache.take(held)
            self._forget(held)
        _trim(obj["metadata"])
        self._entries.setdefault(new.key.kind, {}).setdefault(new.key.namespace, {})[new.key.name] = new
        if new.owner_uid:
            self._owned.setdefault((new.key.kind, new.owner_uid), {})[new.key.name] = new
        self._cache.take(new)
        self.listener(obj)
        if held is not None and held.obj is not None and owner_of(held.obj) != owner_of(obj):
            self.listener(held.obj)
        return True

    def remove(self, obj: KubeObject, at: int | None = None) -> bool:
        """Remove an object that was deleted or no longer has the label; a newer one of its name stays.

        Args:
            obj: Its last state.
            at: The resourceVersion at which it no longer existed; that of the state by default.

        Returns:
            Whether it was stored.
        """
        gone = CacheEntry(obj)
        return self._remove(gone, gone.version if at is None else at)

    def retain(self, kind: str, namespace: str | None, uids: set[str], list_version: int) -> None:
        """Remove the objects that are missing from a complete list.

        Args:
            kind: The listed kind.
            namespace: The listed namespace; None for all.
            uids: UIDs of the listed objects.
            list_version: The list's resourceVersion; newer objects are kept.
        """
        gone = [
            entry
            for place, entries in self._entries.get(kind, {}).items()
            if namespace in (None, place)
            for entry in entries.values()
            if entry.uid not in uids and entry.version <= list_version
        ]
        for entry in gone:
            self._remove(entry, list_version)

    def phases(self) -> Iterator[tuple[str, str, int]]:
        """Yield (kind, phase, number) of the two kinds of the API."""
        for kind in sorted(OWNER_KINDS):
            counts = Counter(
                str((self._cache.take(entry).get("status") or {}).get("phase") or "New")
                for entries in self._entries.get(kind, {}).values()
                for entry in entries.values()
            )
            for phase, count in sorted(counts.items()):
                yield kind, phase, count

    def _held(self, entry: CacheEntry) -> CacheEntry | None:
        return self._entries.get(entry.key.kind, {}).get(entry.key.namespace, {}).get(entry.key.name)

    def _remove(self, gone: CacheEntry, at: int) -> bool:
        self._deleted[gone.uid] = max(at, self._deleted.get(gone.uid, -1))
        self._deleted.move_to_end(gone.uid)
        while len(self._deleted) > _REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)
        held = self._held(gone)
        if held is None or held.uid != gone.uid:
            return False
        obj = self._cache.take(held)
        self._forget(held)
        self.listener(obj)
        return True

    def _forget(self, held: CacheEntry) -> None:
        kind, namespace, name = held.key
        entries = self._entries[kind][namespace]
        del entries[name]
        if not entries:
            del self._entries[kind][namespace]
        if held.owner_uid:
            children = self._owned[(kind, held.owner_uid)]
            del children[name]
            if not children:
                del self._owned[(kind, held.owner_uid)]
        self._cache.drop(held)


def _trim(metadata: KubeObject) -> None:
    metadata.pop("managedFields", None)
    annotations = metadata.get("annotations")
    if annotations and annotations.pop(_LAST_APPLIED, None) is not None and not annotations:
        del metadata["annotations"]
