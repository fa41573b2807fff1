"""Reads kopf's watch streams directly, without the worker, queue and cause that kopf creates for every event.

kopf hands each event to a worker of its object, which computes the difference, looks for handlers and calls each in a
context of its own. That suits handlers that wait. Here an event only updates the store and the queue, and kopf's way
there would add half of the whole operator's CPU time (docs/decisions/0001-kopf-level-based.md).

This is the only module that uses kopf's private parts. `incompatibility` checks them before they are used. If they have
changed, the watches use kopf's public `on.event` handler instead: the same events, at a higher cost.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from contextvars import ContextVar

from tunesmith_operator.engine.reconciler import KubeObject

try:
    from kopf._cogs.clients import watching
    from kopf._core.reactor import orchestration, queueing
except ImportError:
    watching = orchestration = queueing = None

TakeEvent = Callable[[str | None, KubeObject], None]

_log = logging.getLogger(__name__)
_STREAM = frozenset({"settings", "resource", "namespace", "operator_paused"})
_WATCHER = _STREAM | {"processor", "operator_indexed", "resource_indexed"}
_by_workers = getattr(queueing, "watcher", None)
_take: ContextVar[TakeEvent] = ContextVar("take")


def incompatibility() -> str | None:
    """Return how kopf's private parts differ from what this module was written for; None if they do not."""
    if watching is None or orchestration is None or queueing is None:
        return "its modules have moved"
    if not inspect.iscoroutinefunction(_by_workers) or set(inspect.signature(_by_workers).parameters) != _WATCHER:
        return "queueing.watcher takes other arguments"
    stream = getattr(watching, "infinite_watch", None)
    if not callable(stream) or not set(inspect.signature(stream).parameters) >= _STREAM:
        return "watching.infinite_watch takes other arguments"
    if not isinstance(getattr(watching, "Bookmark", None), type):
        return "watching.Bookmark is gone"
    # The caller must look `queueing.watcher` up when it starts a watch: a name that it has imported stays kopf's own.
    names = getattr(getattr(orchestration, "spawn_missing_watchers", None), "__code__", None)
    if names is None or getattr(orchestration, "queueing", None) is not queueing:
        return "orchestration.spawn_missing_watchers is gone"
    if not {"queueing", "watcher"} <= set(names.co_names):
        return "queueing.watcher is not what starts a watch"
    return None


def read_directly(take: TakeEvent) -> bool:
    """Pass the events of all watches that kopf starts in this context to `take` only.

    Args:
        take: Called with each event's type (None for listed) and object. It must not block.

    Returns:
        Whether it works; False if this version of kopf is not compatible, and events come by kopf's handlers.
    """
    if (problem := incompatibility()) is not None:
        _log.warning("kopf's streams cannot be read directly (%s): its event handlers take more CPU", problem)
        return False
    queueing.watcher = _watcher
    _take.set(take)
    return True


async def _watcher(
    *, settings: object, resource: object, namespace: object, operator_paused: object = None, **others: object
) -> None:
    assert watching is not None and _by_workers is not None  # noqa: S101 - checked by `incompatibility`
    stream = {"settings": settings, "resource": resource, "namespace": namespace}
    take = _take.get(None)
    if take is None:
        await _by_workers(**stream, operator_paused=operator_paused, **others)
        return
    # Nothing pauses these watches. With a toggle, kopf waits after each stream for the end of a task that it cancels,
    # and loses a cancellation of this one that comes meanwhile.
    async for event in watching.infinite_watch(**stream, operator_paused=None):
        if not isinstance(event, watching.Bookmark) and event["type"] != "BOOKMARK":
            take(event["type"], event["object"])
