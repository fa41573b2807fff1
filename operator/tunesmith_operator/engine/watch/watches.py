"""Watches the two kinds and their children with kopf, which only passes events to the store and the queue.

kopf lists and watches, reconnects, and detects silent streams. It keeps no state here: no finalizers, no annotations,
no events, no peering. It ends when a watch meets an error that it does not know; then it is started again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace

import aiohttp
import kopf

from tunesmith_operator.engine.kube.client import KubeClient, backoff
from tunesmith_operator.engine.kube.resources import OWNED, OWNED_SELECTOR, WATCHED
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.engine.watch import streams

_log = logging.getLogger(__name__)
_LIST_CHUNK = 250
_INACTIVITY_SECONDS = 75.0
"""The API server sends a bookmark about every minute, so a stream that is silent for longer is dead."""


class Watches:
    """Keeps the watches open. `on_event` is called with each event's type (None for listed) and object.

    Args:
        client: Creates the session for the watches.
        namespaces: The namespaces to watch; all when empty.
        watch_seconds: Seconds after which the server ends a watch, which is then opened again.
        on_event: Receives events. It must not block.
        on_listed: Called when a kind had to be listed again, so that deletions may have been missed.
        on_started: Called after kopf was started, which installs its own signal handlers.
    """

    def __init__(
        self,
        client: KubeClient,
        namespaces: tuple[str, ...],
        watch_seconds: float,
        on_event: Callable[[str | None, KubeObject], None],
        on_listed: Callable[[], None],
        on_started: Callable[[], None],
    ) -> None:
        self._client = client
        self._namespaces = namespaces
        self._watch_seconds = watch_seconds
        self._on_event = on_event
        self._on_listed = on_listed
        self._on_started = on_started
        self._open: set[str] = set()
        self._expected = {resource.path(namespace) for resource in WATCHED for namespace in (namespaces or (None,))}
        self._all_open = asyncio.Event()
        self.last_sign = time.monotonic()
        """When something was last heard on any watch, on the monotonic clock."""

    async def run(self) -> None:
        """Keep the watches open until this is cancelled."""
        attempt = 0
        while True:
            started = time.monotonic()
            try:
                await self._run_kopf()
            except Exception as error:
                _log.warning("the watches ended and will be opened again: %r", error)
            attempt = 1 if time.monotonic() - started > 60 else attempt + 1
            await asyncio.sleep(backoff(attempt, 0.5, 15.0))

    async def wait_open(self) -> None:
        """Wait until every watch has been opened: from then on nothing that happens is missed."""
        await self._all_open.wait()

    async def _run_kopf(self) -> None:
        """Run kopf's tasks until one of them ends.

        `kopf.run_tasks` would at the end cancel every task of the loop, the reconcilers included.
        """
        streams.read_directly(self._take)
        tasks = await kopf.spawn_tasks(
            registry=self._registry(),
            settings=self._settings(),
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            standalone=True,
        )
        self._on_started()
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)  # type: ignore[untyped-decorator]
        async def login(**_: object) -> kopf.AiohttpSession:
            await self._client.renew_credentials()
            trace = aiohttp.TraceConfig()
            trace.on_request_end.append(self._answered)
            session = self._client.new_session(trace)
            return kopf.AiohttpSession(server=self._client.server, aiohttp_session=session)

        # kopf watches the kinds that have a handler. Events reach it only if the streams are not read directly.
        async def event(type: str | None, event: kopf.RawEvent, **_: object) -> None:  # noqa: A002 - kopf's name
            self._take(type, dict(event["object"]))

        for resource in WATCHED:
            kopf.on.event(resource.group, resource.version, resource.plural, registry=registry)(event)
        return registry

    def _take(self, type: str | None, obj: KubeObject) -> None:  # noqa: A002 - the API's word
        self.last_sign = time.monotonic()
        self._on_event(type, obj)

    def _settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.process.ultimate_exiting_timeout = None
        settings.posting.enabled = False
        settings.peering.standalone = True
        settings.scanning.disabled = True
        settings.persistence.finalizer = ""
        settings.watching.server_timeout = int(self._watch_seconds)
        settings.watching.client_timeout = self._watch_seconds + 30
        settings.watching.connect_timeout = 10
        settings.watching.inactivity_timeout = min(_INACTIVITY_SECONDS, self._watch_seconds + 15)
        settings.watching.chunk_size = _LIST_CHUNK
        settings.networking.request_timeout = 60
        settings.networking.connect_timeout = 10
        settings.networking.error_backoffs = _Backoffs()
        for resource in OWNED:
            settings.watching.label_selectors[resource.group, resource.version, resource.plural] = OWNED_SELECTOR
        return settings

    async def _answered(self, _: object, __: SimpleNamespace, params: aiohttp.TraceRequestEndParams) -> None:
        """Track kopf's requests: which watch is open, and which kind is listed again."""
        path, status = params.url.path, params.response.status
        if path not in self._expected or status != 200:
            return
        self.last_sign = time.monotonic()
        if params.url.query.get("watch") != "true":
            self._open.discard(path)
        elif path not in self._open:
            self._open.add(path)
            if self._all_open.is_set():
                self._on_listed()
            elif self._open == self._expected:
                self._all_open.set()


class _Backoffs(Iterable[float]):
    """Backoffs for kopf's requests, without end: a lasting failure is logged at each attempt."""

    def __iter__(self) -> Iterator[float]:
        attempt = 0
        while True:
            attempt += 1
            yield backoff(attempt, 0.3, 5.0)
