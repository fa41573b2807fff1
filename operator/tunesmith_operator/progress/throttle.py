"""Writes progress to objects: at most every two seconds per object, and always the newest in the end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from tunesmith_operator.engine.kube.api_errors import ApiError, ApiUnreachableError
from tunesmith_operator.engine.kube.client import APPLY, KubeClient
from tunesmith_operator.engine.kube.resources import FINE_TUNE_JOB
from tunesmith_operator.engine.labels import PROGRESS_FIELD_MANAGER
from tunesmith_operator.engine.logs import with_key
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.engine.watch.cache import Key
from tunesmith_operator.engine.watch.store import ObjectStore
from tunesmith_operator.progress.report import Progress, merged

_log = logging.getLogger(__name__)
INTERVAL_SECONDS = 2.0
_WRITES_AT_ONCE = 8


class ProgressWriter:
    """Collects reports and writes `status.progress`.

    Args:
        client: The client.
        store: The watched objects.
        interval: Seconds between two writes of one object.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        client: KubeClient,
        store: ObjectStore,
        interval: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._store = store
        self._interval = interval
        self._clock = clock
        self._pending: dict[Key, tuple[str, Progress]] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_WRITES_AT_ONCE)

    def submit(self, job: KubeObject, stage: str | None, report: Progress) -> bool:
        """Queue a report about a job.

        Returns:
            Whether it is queued; a report about a job that has ended is not.
        """
        if has_ended(job):
            return False
        key, uid = _key(job), job["metadata"]["uid"]
        before = (job.get("status") or {}).get("progress")
        if key in self._pending and self._pending[key][0] == uid:
            before = self._pending[key][1]
        self._pending[key] = (uid, merged(before, stage, report))
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._write(key), name=f"progress of {key}")
        return True

    async def close(self) -> None:
        """Write what is pending, for a few seconds at most."""
        if self._tasks:
            self._interval = 0.0
            await asyncio.wait(self._tasks.values(), timeout=INTERVAL_SECONDS + 1)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _write(self, key: Key) -> None:
        """Write the pending progress of one object until nothing is pending."""
        try:
            while (pending := self._pending.pop(key, None)) is not None:
                try:
                    async with self._slots:
                        await self._apply(key, *pending)
                except (ApiError, ApiUnreachableError) as error:
                    with_key(_log, key).warning("progress was not written: %s", error)
                await asyncio.sleep(self._interval)
        finally:
            del self._tasks[key]

    async def _apply(self, key: Key, uid: str, progress: Progress) -> None:
        job = self._store.get(*key)
        if job is None or job["metadata"]["uid"] != uid or has_ended(job):
            return
        if (job.get("status") or {}).get("progress") == progress:
            return
        body = {
            "apiVersion": FINE_TUNE_JOB.api_version,
            "kind": FINE_TUNE_JOB.kind,
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": uid},
            "status": {"progress": progress},
        }
        query = {"fieldManager": PROGRESS_FIELD_MANAGER, "force": "true"}
        path = FINE_TUNE_JOB.path(key.namespace, key.name, "status")
        answer = await self._client.request(
            "PATCH", path, query=query, body=body, content_type=APPLY, retry_conflict=True
        )
        self._store.put(answer)


def has_ended(job: KubeObject) -> bool:
    """Return whether a job has succeeded or failed for good: reports of its pods are then outdated."""
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition.get("type") in ("Ready", "Stalled") and condition.get("status") == "True":
            return True
    return False


def _key(job: KubeObject) -> Key:
    return Key(job["kind"], job["metadata"]["namespace"], job["metadata"]["name"])
