"""Lists every object: at the start, before this replica leads, on a timer, and when watches may have missed events."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from tunesmith_operator.engine.kube.api_errors import ApiError, ApiUnreachableError
from tunesmith_operator.engine.kube.client import KubeClient, backoff
from tunesmith_operator.engine.kube.resources import OWNED_SELECTOR, OWNERS, WATCHED, Resource
from tunesmith_operator.engine.metrics import Metrics
from tunesmith_operator.engine.watch.store import ObjectStore

_log = logging.getLogger(__name__)
_CHUNK = 250
_MISSING_KIND_SECONDS = 5.0


class Resync:
    """Lists all watched kinds into the store, and removes from it what no longer exists.

    Args:
        client: The client.
        store: The store to fill.
        metrics: Counts resyncs.
        namespaces: The namespaces to list; all when empty.
    """

    def __init__(self, client: KubeClient, store: ObjectStore, metrics: Metrics, namespaces: tuple[str, ...]) -> None:
        self._client = client
        self._store = store
        self._metrics = metrics
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self._lock = asyncio.Lock()
        self._soon = asyncio.Event()
        self._last_begin: float | None = None
        self.last_success: float | None = None
        """When the last complete resync ended, on the monotonic clock; None before the first."""
        self.last_answer = time.monotonic()
        """When the API server last answered here, on the monotonic clock."""

    def request(self) -> None:
        """Ask for a resync soon, because events may have been missed."""
        self._soon.set()

    async def run(self, seconds: float, on_done: Callable[[], None]) -> None:
        """Resync again and again until this is cancelled.

        Args:
            seconds: Time between two resyncs, unless one is requested.
            on_done: Called after each resync.
        """
        while True:
            try:
                async with asyncio.timeout(seconds):
                    await self._soon.wait()
                await asyncio.sleep(1.0)  # Watches that ended together are opened anew together.
            except TimeoutError:
                pass
            self._soon.clear()
            await self.until_done()
            on_done()

    async def until_done(self, since: float | None = None) -> None:
        """Resync; if that fails, retry until it succeeds.

        Args:
            since: A resync that began after this time, on the monotonic clock, is enough; by default only a new one.
        """
        attempt = 0
        while True:
            try:
                await self.once(since)
            except (ApiError, ApiUnreachableError) as error:
                attempt += 1
                self._metrics.resyncs.labels("error").inc()
                _log.warning("not every object could be listed, will be retried: %s", error)
                await asyncio.sleep(backoff(attempt, 0.5, 15.0))
            else:
                return

    async def once(self, since: float | None = None) -> None:
        """Resync once, unless a resync has begun since a time on the monotonic clock.

        Raises:
            ApiError: A list was refused.
            ApiUnreachableError: The API server did not answer.
        """
        async with self._lock:
            if since is not None and self._last_begin is not None and self._last_begin >= since:
                return
            begin = time.monotonic()
            for resource in WATCHED:
                for namespace in self._namespaces:
                    await self._list(resource, namespace)
            self.last_success = self.last_answer = time.monotonic()
            self._last_begin = begin
            self._metrics.resyncs.labels("ok").inc()

    async def wait_for_kinds(self) -> None:
        """Wait until the API server has the two kinds of the project's API."""
        told = ""
        for resource in OWNERS:
            while True:
                problem = await self._problem_with(resource)
                if problem is None:
                    break
                if problem != told:
                    _log.error("%s; waiting", problem)
                    told = problem
                await asyncio.sleep(_MISSING_KIND_SECONDS)

    async def _problem_with(self, resource: Resource) -> str | None:
        try:
            await self._client.request("GET", resource.path(self._namespaces[0]), query={"limit": "1"})
        except ApiError as error:
            self.last_answer = time.monotonic()
            if error.status == 404:
                return f"the cluster has no {resource.kind} ({resource.plural}.{resource.group}): install the CRDs"
            return f"{resource.plural} cannot be listed: {error.message}"
        except ApiUnreachableError as error:
            return f"the API server does not answer: {error}"
        self.last_answer = time.monotonic()
        return None

    async def _list(self, resource: Resource, namespace: str | None) -> None:
        """List a kind in chunks of one snapshot; later changes come by the watches."""
        query = {"limit": str(_CHUNK)}
        if resource not in OWNERS:
            query["labelSelector"] = OWNED_SELECTOR
        uids: set[str] = set()
        while True:
            answer = await self._client.request("GET", resource.path(namespace), query=query, seconds=60)
            for obj in answer["items"]:
                obj |= {"kind": resource.kind, "apiVersion": resource.api_version}
                uids.add(obj["metadata"]["uid"])
                self._store.put(obj)
            metadata = answer["metadata"]
            if not metadata.get("continue"):
                break
            query["continue"] = metadata["continue"]
            await asyncio.sleep(0)
        self._store.retain(resource.kind, namespace, uids, int(metadata["resourceVersion"]))
