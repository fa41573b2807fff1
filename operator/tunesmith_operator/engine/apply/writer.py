"""Carries out decisions: writes only what differs, and remembers what the API server made of it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tunesmith_operator.engine.apply.children import ChildWriter, ForeignObjectError
from tunesmith_operator.engine.apply.difference import digest
from tunesmith_operator.engine.apply.events import EventPoster
from tunesmith_operator.engine.kube.api_errors import ApiError
from tunesmith_operator.engine.kube.client import APPLY, KubeClient
from tunesmith_operator.engine.kube.resources import resource_of
from tunesmith_operator.engine.labels import PROGRESS_FIELD_MANAGER, STATUS_FIELD_MANAGER
from tunesmith_operator.engine.metrics import Metrics
from tunesmith_operator.engine.reconciler import ApplyError, Decision, Object, Ref
from tunesmith_operator.engine.watch.store import ObjectStore

_log = logging.getLogger(__name__)
_PROGRESS = "progress"


class OutdatedError(Exception):
    """The object has changed or is gone since it was looked at, so what was decided may no longer be right."""


@dataclass
class Result:
    """What carrying out a decision came to.

    Attributes:
        has_written: Whether anything was changed at the API server.
        errors: What it refused.
    """

    has_written: bool = False
    errors: list[ApplyError] = field(default_factory=list)


class DecisionWriter:
    """Carries out decisions for one object at a time; calls for different objects may run side by side.

    Args:
        client: The client.
        store: Where answers go.
        metrics: Where refusals are counted.
        events: What posts the events that come with a status.
        on_status: Called after a status was written, with the object before and after.
        on_child: Called after a child was created, with its owner and the child.
    """

    def __init__(
        self,
        client: KubeClient,
        store: ObjectStore,
        metrics: Metrics,
        events: EventPoster,
        on_status: Callable[[Object, Object], None],
        on_child: Callable[[Object, Object], None],
    ) -> None:
        self._client = client
        self._store = store
        self._metrics = metrics
        self._children = ChildWriter(client, store, on_child)
        self._events = events
        self._on_status = on_status
        self._written: dict[str, tuple[str, str]] = {}

    async def apply(self, obj: Object, decision: Decision) -> Result:
        """Write the status, then the children that differ, then delete.

        Raises:
            OutdatedError: The object is not the one that was decided about any more. Nothing else was written.
            ApiError: The status was refused for another reason.
            ApiUnreachableError: The API server did not answer.
        """
        result = Result()
        if decision.status is not None:
            result.has_written = await self._write_status(obj, decision)
        is_going = "deletionTimestamp" in obj["metadata"]
        if not is_going:
            for child in decision.apply:
                await self._attempt(result, _ref(child), self._children.ensure(obj, child))
            for child in decision.create:
                await self._attempt(result, _ref(child), self._children.create(obj, child))
        for ref in decision.delete:
            await self._attempt(result, ref, self._children.delete(obj, ref))
        return result

    def forget(self, uid: str) -> None:
        """Drop what is remembered about an object that is gone."""
        self._written.pop(uid, None)

    async def _attempt(self, result: Result, ref: Ref, write: Awaitable[bool]) -> None:
        try:
            result.has_written |= await write
        except ForeignObjectError as error:
            result.errors.append(ApplyError(ref, 409, "AlreadyExists", str(error)))
        except ApiError as error:
            if error.is_transient or error.is_conflict:
                raise
            result.errors.append(ApplyError(ref, error.status, error.reason, error.message))
        else:
            return
        self._metrics.child_errors.labels(ref.kind, result.errors[-1].reason or "Unknown").inc()

    async def _write_status(self, obj: Object, decision: Decision) -> bool:
        """Write the status where it differs, and then what is to be told with it.

        Progress is written on its own, by the field manager that owns it, so that neither takes it from the other:
        before the status, so that whoever waits for the end finds it, and again where a late report came in between.
        """
        desired = dict(decision.status or {})
        progress = desired.pop(_PROGRESS, None)
        observed = dict(obj.get("status") or {})
        observed.pop(_PROGRESS, None)
        uid = obj["metadata"]["uid"]
        newest = await self._write_progress(obj, progress)
        if desired != observed:
            # What the server makes of a value (a default, a pruned field) is not written again and again.
            memory = (digest(desired), digest(observed))
            if self._written.get(uid) != memory:
                newest = await self._apply_status(newest, desired, STATUS_FIELD_MANAGER)
                written = {key: value for key, value in (newest.get("status") or {}).items() if key != _PROGRESS}
                if written == desired:
                    self._written.pop(uid, None)
                else:
                    self._written[uid] = (memory[0], digest(written))
                newest = await self._write_progress(newest, progress)
        if newest is obj:
            return False
        self._on_status(obj, newest)
        for note in decision.events:
            await self._events.post(newest, note)
        return True

    async def _write_progress(self, obj: Object, progress: Object | None) -> Object:
        """Write the progress where it differs, and return the object as it is then."""
        if progress is None or progress == (obj.get("status") or {}).get(_PROGRESS):
            return obj
        return await self._apply_status(obj, {_PROGRESS: progress}, PROGRESS_FIELD_MANAGER)

    async def _apply_status(self, obj: Object, status: Object, manager: str) -> Object:
        metadata = obj["metadata"]
        resource = resource_of(obj["kind"])
        # With the resourceVersion and UID the server refuses it when the object is not the one that was looked at.
        body = {
            "apiVersion": resource.api_version,
            "kind": obj["kind"],
            "metadata": {name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion")},
            "status": status,
        }
        path = resource.path(metadata["namespace"], metadata["name"], "status")
        query = {"fieldManager": manager, "force": "true"}
        try:
            newest = await self._client.request("PATCH", path, query=query, body=body, content_type=APPLY)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            await self._read_again(obj)
            raise OutdatedError(str(error)) from error
        self._store.put(newest)
        return newest

    async def _read_again(self, obj: Object) -> None:
        metadata = obj["metadata"]
        path = resource_of(obj["kind"]).path(metadata["namespace"], metadata["name"])
        try:
            self._store.put(await self._client.request("GET", path))
        except ApiError as error:
            if error.status != 404:
                raise
            self._store.remove(obj)


def _ref(child: Object) -> Ref:
    return Ref(child["kind"], child["metadata"]["name"])
