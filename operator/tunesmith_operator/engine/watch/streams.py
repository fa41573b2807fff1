"""kopf's watch streams, without the task, the queue and the causes that it makes of every event.

kopf hands each event to a worker of its object, which works out what has changed, looks for handlers and calls them in
a context of their own. That is for handlers that wait. Here an event is only noted, and the way to that takes a third
of the operator's CPU in a burst. So kopf's own reader of a stream (lists, watches, reconnections) is asked directly.

It is not part of kopf's public API: only this module knows of it, and were kopf to stop asking `queueing.watcher`,
events would come by the handler that `watches` registers, more slowly.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from kopf._cogs.clients import watching
from kopf._core.reactor import queueing

from tunesmith_operator.engine.reconciler import Object

TakeEvent = Callable[[str | None, Object], None]

_by_workers = queueing.watcher
_take: ContextVar[TakeEvent] = ContextVar("take")


def read_directly(take: TakeEvent) -> None:
    """Let the watches that kopf starts from this context on give their events to `take` alone.

    Args:
        take: Called with each event's type (None for listed) and object. It must not wait.
    """
    queueing.watcher = _watcher
    _take.set(take)


async def _watcher(
    *, settings: object, resource: object, namespace: object, operator_paused: object = None, **others: object
) -> None:
    stream = {"settings": settings, "resource": resource, "namespace": namespace, "operator_paused": operator_paused}
    take = _take.get(None)
    if take is None:
        await _by_workers(**stream, **others)
        return
    async for event in watching.infinite_watch(**stream):
        if not isinstance(event, watching.Bookmark) and event["type"] != "BOOKMARK":
            take(event["type"], event["object"])
