"""The workers: take a key, reconcile its object, apply the decision, and queue the key again if work is left."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace

from tunesmith_operator.engine.apply.writer import DecisionWriter, OutdatedError
from tunesmith_operator.engine.kube.api_errors import ApiError, ApiUnreachableError
from tunesmith_operator.engine.logs import with_key
from tunesmith_operator.engine.metrics import Metrics
from tunesmith_operator.engine.reconciler import Api, ApplyError, Context, KubeObject, Reconciler
from tunesmith_operator.engine.watch.cache import Key, owner_of
from tunesmith_operator.engine.watch.store import ObjectStore
from tunesmith_operator.engine.work.burst import CreationBurst
from tunesmith_operator.engine.work.workqueue import WorkQueue

_log = logging.getLogger(__name__)
FINISH_SECONDS = 10.0
"""Seconds that a running reconcile gets to finish when the workers are stopped."""
LONGEST_STREAK = 20
"""Consecutive reconciles of one object that wrote something, after which it is slowed down."""
STREAK_SECONDS = 5.0


class Controller:
    """Reconciles objects of the given kinds. The store enqueues keys at any time; workers run between start and stop.

    Args:
        reconcilers: One for each kind.
        store: The watched objects.
        writer: Applies decisions.
        api: Reads objects that are not watched.
        metrics: Counts reconciles.
        workers: Number of objects that are reconciled at the same time.
        before_reconcile: Awaited with an object before it is reconciled.
    """

    def __init__(
        self,
        reconcilers: Iterable[Reconciler],
        store: ObjectStore,
        writer: DecisionWriter,
        api: Api,
        metrics: Metrics,
        workers: int,
        before_reconcile: Callable[[KubeObject], Awaitable[None]] | None = None,
    ) -> None:
        self._reconcilers: Mapping[str, Reconciler] = {reconciler.kind: reconciler for reconciler in reconcilers}
        self._store = store
        self._writer = writer
        self._api = api
        self._metrics = metrics
        self._workers = workers
        self._before_reconcile = before_reconcile
        self._errors: dict[Key, tuple[ApplyError, ...]] = {}
        self._streaks: dict[Key, int] = {}
        self._uids: dict[Key, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self.queue: WorkQueue[Key] = WorkQueue()
        self._burst: CreationBurst[Key] = CreationBurst(lambda key: self.queue.add(key, urgent=False))
        store.listener = self.enqueue
        metrics.observe_queue(self._depth, lambda: self.queue.running)

    def _depth(self) -> int:
        """Return how many objects wait. Replicas that do not lead fill their queues too, and nobody empties them."""
        return self.queue.depth + self._burst.held if self._tasks else 0

    @property
    def is_running(self) -> bool:
        """Whether the workers are started and none has ended."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def enqueue(self, obj: KubeObject) -> None:
        """Queue everything that may depend on an object that was added, changed or deleted.

        That is the object itself, the owner of a child, and the objects that a reconciler maps it to.
        """
        kind, metadata = obj["kind"], obj["metadata"]
        namespace = metadata.get("namespace", "")
        if kind in self._reconcilers:
            self._add(Key(kind, namespace, metadata["name"]))
        owner = owner_of(obj)
        if owner is not None and owner.kind in self._reconcilers:
            self._add(owner)
        for reconciler in self._reconcilers.values():
            if reconciler.kind != kind and (owner is None or owner.kind != reconciler.kind):
                for name in reconciler.map_to_names(kind, obj, self._store):
                    self._add(Key(reconciler.kind, namespace, name))

    def enqueue_all(self) -> None:
        """Queue every object, behind those with recent events."""
        for kind in self._reconcilers:
            for key in self._store.keys(kind):
                self.queue.add(key, urgent=False)

    def start(self) -> None:
        """Start the workers."""
        self._is_stopping = False
        self._tasks = {asyncio.create_task(self._work(), name=f"worker-{n}") for n in range(self._workers)}

    async def stop(self, seconds: float = FINISH_SECONDS) -> None:
        """Stop the workers.

        Args:
            seconds: Time that running reconciles get to finish before they are cancelled.
        """
        self._is_stopping = True
        for task in self._idle:
            task.cancel()
        busy = self._tasks - self._idle
        if busy and seconds > 0:
            await asyncio.wait(busy, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = set()

    async def _work(self) -> None:
        this = asyncio.current_task()
        assert this is not None  # noqa: S101 - a coroutine that runs is in a task
        while not self._is_stopping:
            self._idle.add(this)
            try:
                key = await self.queue.get()
            finally:
                self._idle.discard(this)
            try:
                await self._reconcile(key)
            finally:
                self.queue.done(key)

    async def _reconcile(self, key: Key) -> None:
        """Reconcile one object, and queue it again if it failed. Raises nothing."""
        started = time.monotonic()
        log = with_key(_log, key)
        try:
            result = await self._attempt(key)
        except OutdatedError as error:
            log.debug("the object was outdated: %s", error)
            result = "outdated"
        except (ApiError, ApiUnreachableError) as error:
            log.warning("will be retried: %s", error)
            result = "error"
        except Exception:
            log.exception("failed, will be retried")
            result = "error"
        if result in ("outdated", "error"):
            self.queue.retry(key)
        self._metrics.reconciles.labels(key.kind, result).inc()
        self._metrics.reconcile_seconds.labels(key.kind).observe(time.monotonic() - started)

    async def _attempt(self, key: Key) -> str:
        obj = self._store.get(*key)
        if obj is None:
            self._forget(key)
            return "gone"
        is_first_look = self._uids.get(key) != obj["metadata"]["uid"]
        self._uids[key] = obj["metadata"]["uid"]
        if self._before_reconcile is not None:
            await self._before_reconcile(obj)
        before = self._errors.get(key, ())
        context = Context(self._store, self._api, before)
        decision = await self._reconcilers[key.kind].reconcile(obj, context)
        if is_first_look and _is_new(obj):
            self._burst.note_new()
            if self._burst.is_on and decision.create:
                # In a burst, create the children now and write the status later.
                decision = replace(decision, status=None, events=())
                self._burst.hold(key)
        result = await self._writer.apply(obj, decision)
        if result.errors:
            return self._refused(key, before, tuple(result.errors))
        self._errors.pop(key, None)
        if result.has_written:
            self._note_write(key)
            self._add(key)
        elif before:
            self.queue.add(key)  # The reconciler has not seen yet that the errors are gone.
        else:
            self._streaks.pop(key, None)
            self.queue.forget(key)
        if decision.requeue_after is not None:
            self.queue.add_after(key, decision.requeue_after)
        return "ok"

    def _refused(self, key: Key, before: tuple[ApplyError, ...], errors: tuple[ApplyError, ...]) -> str:
        """Remember the refused children; reconcile at once if the errors are new, else after a backoff."""
        self._errors[key] = errors
        if errors != before:
            for error in errors:
                with_key(_log, key).warning(
                    "%s %s was refused: %s %s: %s",
                    error.ref.kind, error.ref.name, error.status, error.reason, error.message,
                )  # fmt: skip
            self.queue.add(key)
        else:
            self.queue.retry(key)
        return "refused"

    def _note_write(self, key: Key) -> None:
        """Count consecutive reconciles that wrote something. Their writes have already queued the object again."""
        streak = self._streaks[key] = self._streaks.get(key, 0) + 1
        if streak == LONGEST_STREAK:
            with_key(_log, key).warning("is written again and again: something reverts it, or each decision differs")

    def _add(self, key: Key) -> None:
        if self._burst.is_on and key in self._uids:
            self._burst.hold(key)
        elif self._streaks.get(key, 0) < LONGEST_STREAK:
            self.queue.add(key)
        else:
            self.queue.add_after(key, STREAK_SECONDS)

    def _forget(self, key: Key) -> None:
        self.queue.forget(key)
        self._errors.pop(key, None)
        self._streaks.pop(key, None)
        if (uid := self._uids.pop(key, None)) is not None:
            self._writer.forget(uid)


def _is_new(obj: KubeObject) -> bool:
    return not (obj.get("status") or {}).get("conditions") and "deletionTimestamp" not in obj["metadata"]
