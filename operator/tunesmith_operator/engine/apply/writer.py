"""Applies decisions: writes only what differs, and remembers how the API server normalises it."""

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
from tunesmith_operator.engine.reconciler import ApplyError, Decision, KubeObject, ObjectRef
from tunesmith_operator.engine.watch.store import ObjectStore

_log = logging.getLogger(__name__)
_PROGRESS = "progress"


class OutdatedError(Exception):
    """The object was changed or deleted since it was read, so the decision may no longer be right."""


@dataclass
class Result:
    """The result of applying a decision.

    Attributes:
        has_written: Whether anything was changed at the API server.
        errors: The children that it refused.
    """

    has_written: bool = False
    errors: list[ApplyError] = field(default_factory=list)


class DecisionWriter:
    """Applies the decision about one object per call; calls for different objects may run concurrently.

    Args:
        client: The client.
        store: Receives the API server's answers.
        metrics: Counts refusals.
        events: Posts the events of a decision.
        on_status: Called after a status was written, with the object before and after.
        on_child: Called after a child was created, with its owner and the child.
    """

    def __init__(
        self,
        client: KubeClient,
        store: ObjectStore,
        metrics: Metrics,
        events: EventPoster,
        on_status: Callable[[KubeObject, KubeObject], None],
        on_child: Callable[[KubeObject, KubeObject], None],
    ) -> None:
        self._client = client
        self._store = store
        self._metrics = metrics
        self._children = ChildWriter(client, store, on_child)
        self._events = events
        self._on_status = on_status
        self._written: dict[str, tuple[str, str]] = {}

    async def apply(self, obj: KubeObject, decision: Decision) -> Result:
        """Write the status, then the children that differ, then delete, then annotate.

        Raises:
            OutdatedError: The object has changed since the decision. Nothing else was written.
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
                if result.errors:
                    break  # it may need what was refused
                await self._attempt(result, _ref(child), self._children.create(obj, child))
        for ref in decision.delete:
            await self._attempt(result, ref, self._children.delete(obj, ref))
        if not is_going and not result.errors:
            for annotation in decision.annotate:
                await self._attempt(result, annotation.ref, self._children.annotate(obj, annotation))
        return result

    def forget(self, uid: str) -> None:
        """Drop what is remembered about an object that is gone."""
        self._written.pop(uid, None)

    async def _attempt(self, result: Result, ref: ObjectRef, write: Awaitable[bool]) -> None:
        try:
            result.has_written |= await write
        except ForeignObjectError as error:
            result.errors.append(ApplyError(ref, 409, "AlreadyExists", str(error)))
        except ApiError as error:
            if error.is_transient or error.is_conflict:
                raise
            # A policy is none of the object's faults, whatever status it answers with.
            status, reason = (403, "Forbidden") if error.is_denied_by_policy else (error.status, error.reason)
            result.errors.append(ApplyError(ref, status, reason, error.message))
        else:
            return
        self._metrics.child_errors.labels(ref.kind, result.errors[-1].reason or "Unknown").inc()

    async def _write_status(self, obj: KubeObject, decision: Decision) -> bool:
        """Write the status if it differs, then post the decision's events.

        Progress is written separately, by the field manager that owns it, so that neither manager removes the other's
        fields: before the status, so that it is there when the status says that the job has ended, and again if a late
        report came in between.
        """
        desired = dict(decision.status or {})
        progress = desired.pop(_PROGRESS, None)
        observed = dict(obj.get("status") or {})
        observed.pop(_PROGRESS, None)
        uid = obj["metadata"]["uid"]
        newest = await self._write_progress(obj, progress)
        if desired != observed:
            # A value that the server changes (a default, a pruned field) is not written again and again.
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

    async def _write_progress(self, obj: KubeObject, progress: KubeObject | None) -> KubeObject:
        """Write the progress if it differs, and return the object as it is afterwards."""
        if progress is None or progress == (obj.get("status") or {}).get(_PROGRESS):
            return obj
        return await self._apply_status(obj, {_PROGRESS: progress}, PROGRESS_FIELD_MANAGER)

    async def _apply_status(self, obj: KubeObject, status: KubeObject, manager: str) -> KubeObject:
        metadata = obj["metadata"]
        resource = resource_of(obj["kind"])
        # With resourceVersion and UID the server refuses the write if the object has changed since it was read.
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

    async def _read_again(self, obj: KubeObject) -> None:
        metadata = obj["metadata"]
        path = resource_of(obj["kind"]).path(metadata["namespace"], metadata["name"])
        try:
            self._store.put(await self._client.request("GET", path))
        except ApiError as error:
            if error.status != 404:
                raise
            self._store.remove(obj)


def _ref(child: KubeObject) -> ObjectRef:
    return ObjectRef(child["kind"], child["metadata"]["name"])
