"""The workers: take a key, look at its object, decide, write, and look again when something is left to do."""

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
from tunesmith_operator.engine.reconciler import Api, ApplyError, Context, Object, Reconciler
from tunesmith_operator.engine.watch.cache import Key, owner_of
from tunesmith_operator.engine.watch.store import ObjectStore
from tunesmith_operator.engine.work.burst import CreationBurst
from tunesmith_operator.engine.work.workqueue import WorkQueue

_log = logging.getLogger(__name__)
FINISH_SECONDS = 10.0
"""How long a reconcile that is under way may take to end when the workers are stopped."""
LONGEST_STREAK = 20
"""Reconciles of one object in a row that wrote something, after which it is slowed down."""
STREAK_SECONDS = 5.0


class Controller:
    """Reconciles objects of the given kinds. The store wakes keys at any time; workers run between start and stop.

    Args:
        reconcilers: One for each kind.
        store: The watched objects.
        writer: What carries out decisions.
        api: Reads of what is not watched.
        metrics: Where reconciles are counted.
        workers: How many objects are reconciled at the same time.
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
        before_reconcile: Callable[[Object], Awaitable[None]] | None = None,
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
        metrics.observe_queue(lambda: self.queue.depth + self._burst.held, lambda: self.queue.running)

    @property
    def is_running(self) -> bool:
        """Whether the workers are started and none has ended."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def enqueue(self, obj: Object) -> None:
        """Queue whatever an object that was added, changed or deleted concerns.

        That is the object itself, the owner of a child, and whatever a reconciler says follows it.
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
                for name in reconciler.wakes(kind, obj, self._store):
                    self._add(Key(reconciler.kind, namespace, name))

    def enqueue_all(self) -> None:
        """Queue every object, after those to which something has just happened."""
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
            seconds: How long reconciles that are under way may take to end before they are cancelled.
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
        """Reconcile one object, and see to it that it comes back when there is more to do. Raises nothing."""
        started = time.monotonic()
        log = with_key(_log, key)
        try:
            result = await self._attempt(key)
        except OutdatedError as error:
            log.debug("looked at an outdated object: %s", error)
            result = "outdated"
        except (ApiError, ApiUnreachableError) as error:
            log.warning("will be tried again: %s", error)
            result = "error"
        except Exception:
            log.exception("failed, will be tried again")
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
                # Its children first: what their being there makes of the status is told after the burst.
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
            self.queue.add(key)  # The reconciler has not seen yet that all is well again.
        else:
            self._streaks.pop(key, None)
            self.queue.forget(key)
        if decision.requeue_after is not None:
            self.queue.add_after(key, decision.requeue_after)
        return "ok"

    def _refused(self, key: Key, before: tuple[ApplyError, ...], errors: tuple[ApplyError, ...]) -> str:
        """Remember what was refused; let the reconciler see it at once when it is news, and later again."""
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
        """Count the reconciles in a row that wrote something. What they wrote has queued the object again already."""
        streak = self._streaks[key] = self._streaks.get(key, 0) + 1
        if streak == LONGEST_STREAK:
            with_key(_log, key).warning("is written again and again: something undoes it, or decides it anew each time")

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


def _is_new(obj: Object) -> bool:
    return not (obj.get("status") or {}).get("conditions") and "deletionTimestamp" not in obj["metadata"]
