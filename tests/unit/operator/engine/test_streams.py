"""The way of an event from kopf's stream to the operator."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from contextvars import copy_context
from typing import Any

import kopf
import pytest
from kopf._cogs.aiokits import aiotoggles
from kopf._cogs.clients import watching
from kopf._core.reactor import queueing

from tunesmith_operator.engine.watch import streams

KOPFS_WATCHER = queueing.watcher
KOPFS_STREAM = watching.infinite_watch
JOB = {"kind": "Job", "metadata": {"uid": "1", "name": "a"}}
EVENTS = (
    {"type": None, "object": JOB},
    watching.Bookmark.LISTED,
    {"type": "MODIFIED", "object": JOB},
    {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}},
    {"type": "DELETED", "object": JOB},
)


@pytest.fixture(autouse=True)
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Let kopf's stream give `EVENTS`; return what it was asked with."""
    asked: list[dict[str, Any]] = []

    async def infinite_watch(
        *, settings: Any, resource: Any, namespace: Any, operator_paused: Any
    ) -> AsyncIterator[Any]:
        given = {"settings": settings, "resource": resource, "namespace": namespace}
        asked.append({**given, "operator_paused": operator_paused})
        for event in EVENTS:
            yield event

    monkeypatch.setattr(watching, "infinite_watch", infinite_watch)
    monkeypatch.setattr(queueing, "watcher", KOPFS_WATCHER)
    yield asked


def watch(**given: Any) -> None:
    """Run what kopf runs for one kind."""
    asyncio.run(queueing.watcher(settings="settings", resource="jobs", namespace="ns", operator_paused=None, **given))


def test_events_are_taken_without_a_worker(stream: list[dict[str, Any]]) -> None:
    """Listed, changed and deleted objects come in order; bookmarks, which are of no object, do not."""
    taken: list[tuple[str | None, Any]] = []

    def run() -> None:
        streams.read_directly(lambda type, obj: taken.append((type, obj)))
        watch(processor=None)

    copy_context().run(run)
    assert taken == [(None, JOB), ("MODIFIED", JOB), ("DELETED", JOB)]
    assert stream == [{"settings": "settings", "resource": "jobs", "namespace": "ns", "operator_paused": None}]


def test_what_fails_ends_the_watch() -> None:
    """So that the watches are opened, and everything listed, again."""

    def refuse(type: str | None, obj: Any) -> None:
        raise ValueError("not taken")

    def run() -> None:
        streams.read_directly(refuse)
        watch(processor=None)

    with pytest.raises(ValueError, match="not taken"):
        copy_context().run(run)


@pytest.mark.parametrize("turns", range(12))
def test_a_watch_ends_when_it_is_cancelled_while_its_stream_ends(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each turn of the loop, in kopf's own code around the stream: a lost cancellation keeps the operator alive."""
    monkeypatch.setattr(watching, "infinite_watch", KOPFS_STREAM)

    async def continuous_watch(**_: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(0)
        yield EVENTS[0]

    monkeypatch.setattr(watching, "continuous_watch", continuous_watch)

    async def run() -> None:
        settings = kopf.OperatorSettings()
        settings.watching.reconnect_backoff = 0
        streams.read_directly(lambda type, obj: None)
        paused = aiotoggles.ToggleSet(any)
        watcher = queueing.watcher(settings=settings, resource="jobs", namespace="ns", operator_paused=paused)
        task = asyncio.create_task(watcher)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        for _ in range(100):
            await asyncio.sleep(0)
        ended = task.done()
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        assert ended

    copy_context().run(asyncio.run, run())


def test_other_watches_of_kopf_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started where nobody takes events goes kopf's own way, with all that it was given."""
    asked: list[dict[str, Any]] = []

    async def by_workers(**given: Any) -> None:
        asked.append(given)

    copy_context().run(streams.read_directly, print)
    monkeypatch.setattr(streams, "_by_workers", by_workers)
    watch(processor="processor", resource_indexed="toggle")
    stream = {"settings": "settings", "resource": "jobs", "namespace": "ns", "operator_paused": None}
    assert asked == [{**stream, "processor": "processor", "resource_indexed": "toggle"}]


def test_kopf_has_what_is_asked_of_it() -> None:
    """A kopf that has moved these parts is noticed here, not by a slower operator."""
    given = {"settings", "resource", "namespace", "operator_paused"}
    assert given < set(inspect.signature(KOPFS_WATCHER).parameters)
    assert given < set(inspect.signature(KOPFS_STREAM).parameters)


def test_this_kopf_is_compatible() -> None:
    """Without the test's own stream: each part of the guard holds for the kopf that is installed."""
    assert streams.incompatibility() is None


async def _positional(namespace: Any, settings: Any) -> None:
    """A watcher of another form."""


async def _calls_another_name() -> None:
    """A starter of watches that has imported the function by its name."""


@pytest.mark.parametrize(
    ("module", "name", "value", "problem"),
    [
        (streams, "watching", None, "have moved"),
        (streams, "_by_workers", _positional, "queueing.watcher takes other"),
        (watching, "infinite_watch", _positional, "infinite_watch takes other"),
        (watching, "Bookmark", None, "Bookmark is gone"),
        (streams.orchestration, "queueing", None, "spawn_missing_watchers is gone"),
        (streams.orchestration, "spawn_missing_watchers", _calls_another_name, "not what starts a watch"),
    ],
)
def test_a_change_of_kopf_is_noticed_and_its_own_way_is_kept(
    module: Any, name: str, value: Any, problem: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning says why, and kopf's watcher stays as it is."""
    monkeypatch.setattr(module, name, value)
    assert problem in str(streams.incompatibility())
    assert not streams.read_directly(lambda type, obj: None)
    assert problem in caplog.text
    assert queueing.watcher is KOPFS_WATCHER
