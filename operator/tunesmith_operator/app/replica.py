"""Assembles one replica of the operator, and runs it from its start to the end of its last reconcile."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterable

from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.apply.events import EventPoster
from tunesmith_operator.engine.apply.writer import DecisionWriter
from tunesmith_operator.engine.kube.client import KubeClient
from tunesmith_operator.engine.kube.reads import ApiReader
from tunesmith_operator.engine.leadership import signals
from tunesmith_operator.engine.leadership.health import HealthServer
from tunesmith_operator.engine.leadership.lease import LeaderElection, LeaseClient
from tunesmith_operator.engine.measure import Measure
from tunesmith_operator.engine.metrics import Metrics
from tunesmith_operator.engine.reconciler import KubeObject, Reconciler
from tunesmith_operator.engine.watch.resync import Resync
from tunesmith_operator.engine.watch.store import ObjectStore
from tunesmith_operator.engine.watch.watches import Watches
from tunesmith_operator.engine.work.controller import FINISH_SECONDS, Controller
from tunesmith_operator.progress.service import ProgressService

_log = logging.getLogger(__name__)
_STUCK_SECONDS = 300.0


class Operator:
    """One replica.

    Args:
        settings: Its configuration.
        reconcilers: One for each kind.
        client: A connected client; the caller closes it.
        metrics: The metrics, which the client uses too.
    """

    def __init__(
        self, settings: OperatorSettings, reconcilers: Iterable[Reconciler], client: KubeClient, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._stop = asyncio.Event()
        self.identity = settings.pod_name or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._store = ObjectStore()
        metrics.observe_phases(self._store.phases)
        self._progress = ProgressService(settings, client, self._store, metrics)
        measure = Measure(metrics, self._store)
        writer = DecisionWriter(
            client, self._store, metrics, EventPoster(client, self.identity), measure.status, measure.child
        )
        self._controller = Controller(
            reconcilers,
            self._store,
            writer,
            ApiReader(client),
            metrics,
            settings.workers,
            self._progress.before_reconcile,
        )
        self._resync = Resync(client, self._store, metrics, settings.namespaces)
        self._watches = Watches(
            client,
            settings.namespaces,
            settings.watch_seconds,
            self._on_event,
            self._resync.request,
            self._handle_signals,
        )
        lease = LeaseClient(client, settings.pod_namespace, settings.lease_name, max(1.0, settings.lease_seconds / 5))
        self._election = LeaderElection(lease, self.identity, settings.lease_seconds)
        self.health = HealthServer(metrics.registry, self._unhealthy, self._unready)

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT; then finish the running reconciles and give the lease back.

        Raises:
            OSError: A port is taken.
        """
        self._handle_signals()
        await self.health.start(self._settings.health_port)
        work = asyncio.create_task(self._run(), name="operator")
        stopped = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            if self._settings.leader_election:
                await self._election.release()
            await self.health.stop()
        if not work.cancelled() and (error := work.exception()) is not None:
            raise error

    async def _run(self) -> None:
        await self._resync.wait_for_kinds()
        # The store must be complete before the first decision: a child that is not in it counts as absent.
        # Only a list that starts after the watches are open misses nothing in between.
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watches.run(), name="watches")
            await self._watches.wait_open()
            if self._settings.leader_election:
                # If the lease is free, the list that follows is also the one that a new leader needs.
                await self._election.try_to_take()
            await self._resync.until_done()
            _log.info("watching; %s", self._summary())
            tasks.create_task(
                self._resync.run(self._settings.resync_seconds, self._controller.enqueue_all), name="resync"
            )
            tasks.create_task(self._progress.run(), name="progress")
            tasks.create_task(self._lead(), name="lead")

    async def _lead(self) -> None:
        """Reconcile while this replica is the leader."""
        if not self._settings.leader_election:
            await self._reconcile_until_cancelled()
        while True:
            await self._election.acquire()
            leading = asyncio.create_task(self._reconcile_until_cancelled(), name="leading")
            try:
                await self._election.hold()
            except asyncio.CancelledError:
                # Stopping: the lease is no longer renewed, so running reconciles must end before it expires.
                leading.cancel()
                await asyncio.gather(leading, return_exceptions=True)
                raise
            # Another replica may soon hold the lease: nothing may be written any more.
            await self._controller.stop(seconds=0)
            leading.cancel()
            await asyncio.gather(leading, return_exceptions=True)

    async def _reconcile_until_cancelled(self) -> None:
        # The last writes of another leader may not have reached the watches yet.
        if self._settings.leader_election:
            await self._resync.until_done(since=self._election.led_since)
        self._controller.enqueue_all()
        self._metrics.leader.set(1)
        self._controller.start()
        try:
            await asyncio.Event().wait()
        finally:
            self._metrics.leader.set(0)
            # The lease lasts longer than that.
            await self._controller.stop(min(FINISH_SECONDS, self._settings.lease_seconds / 2))

    def _handle_signals(self) -> None:
        signals.handle(self._stop)

    def _on_event(self, type: str | None, obj: KubeObject) -> None:  # noqa: A002 - the API's word
        self._metrics.watch_events.labels(obj["kind"]).inc()
        if type == "DELETED":
            self._store.remove(obj)
        else:
            self._store.put(obj)

    def _unhealthy(self) -> str | None:
        now = time.monotonic()
        last = max(self._watches.last_sign, self._resync.last_answer)
        if now - last > 2 * self._settings.resync_seconds + 60:
            return f"the API server has been silent for {now - last:.0f} s"
        if (seconds := self._controller.queue.longest_running) > _STUCK_SECONDS:
            return f"a reconcile has been running for {seconds:.0f} s"
        return None

    def _unready(self) -> str | None:
        return "the first list of all objects is not complete" if self._resync.last_success is None else None

    def _summary(self) -> str:
        return ", ".join(f"{count} {kind} {phase}" for kind, phase, count in self._store.phases()) or "no objects"
