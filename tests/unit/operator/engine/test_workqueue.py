"""The queue: every key once, one worker a key, nothing lost, waits that grow."""

import asyncio

import pytest

from tunesmith_operator.engine.work import workqueue
from tunesmith_operator.engine.work.workqueue import WorkQueue

pytestmark = pytest.mark.asyncio


async def take(queue: WorkQueue[str]) -> str | None:
    try:
        return await asyncio.wait_for(queue.get(), 0.01)
    except TimeoutError:
        return None


async def test_a_key_that_waits_is_not_added_twice() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(3):
        queue.add("a")
    assert queue.depth == 1
    assert await take(queue) == "a"
    queue.done("a")
    assert await take(queue) is None


async def test_a_key_that_is_worked_on_waits_for_its_end_and_then_comes_again() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await take(queue) == "a"
    queue.add("a")
    queue.add("a")
    assert await take(queue) is None
    queue.done("a")
    assert await take(queue) == "a"
    queue.done("a")
    assert await take(queue) is None


async def test_what_happened_goes_before_what_is_looked_at_again() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b", "c"):
        queue.add(key, urgent=False)
    queue.add("d")
    queue.add("b")
    queue.add("d", urgent=False)
    order = []
    while (key := await take(queue)) is not None:
        order.append(key)
        queue.done(key)
    assert order == ["d", "b", "a", "c"]


async def test_one_worker_a_key_whatever_comes() -> None:
    queue: WorkQueue[int] = WorkQueue()
    running: set[int] = set()
    worked = dict.fromkeys(range(5), 0)

    async def worker() -> None:
        while True:
            key = await queue.get()
            assert key not in running
            running.add(key)
            await asyncio.sleep(0)
            worked[key] += 1
            running.remove(key)
            queue.done(key)

    workers = [asyncio.create_task(worker()) for _ in range(3)]
    for round_ in range(200):
        queue.add(round_ % 5, urgent=round_ % 3 > 0)
        if round_ % 7 == 0:
            await asyncio.sleep(0)
    while queue.depth or queue.running:
        await asyncio.sleep(0)
    for task in workers:
        assert not task.done() or task.exception() is None
        task.cancel()
    assert all(count > 0 for count in worked.values())


async def test_a_delay_ends_by_itself_or_by_an_event() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 0.02)
    assert await take(queue) is None
    assert await asyncio.wait_for(queue.get(), 1) == "a"
    queue.done("a")
    queue.add_after("a", 3600)
    queue.add("a")
    assert await take(queue) == "a"
    queue.done("a")
    assert queue.depth == 0


async def test_of_two_delays_the_shorter_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 3600)
    queue.add_after("a", 0.01)
    queue.add_after("a", 3600)
    assert await asyncio.wait_for(queue.get(), 1) == "a"


async def test_failures_in_a_row_wait_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    queue: WorkQueue[str] = WorkQueue()
    monkeypatch.setattr(queue, "add_after", lambda key, seconds: waits.append(seconds))
    for _ in range(14):
        queue.retry("a")
    ceilings = [min(workqueue.LONGEST_RETRY_SECONDS, workqueue.FIRST_RETRY_SECONDS * 2**n) for n in range(14)]
    assert all(ceiling / 2 <= wait <= ceiling for wait, ceiling in zip(waits, ceilings, strict=True))
    queue.forget("a")
    queue.retry("a")
    assert waits[-1] <= workqueue.FIRST_RETRY_SECONDS


async def test_how_long_the_oldest_has_been_worked_on() -> None:
    now = [0.0]
    queue: WorkQueue[str] = WorkQueue(clock=lambda: now[0])
    assert queue.longest_running == 0
    queue.add("a")
    queue.add("b")
    await take(queue)
    now[0] = 5.0
    await take(queue)
    now[0] = 7.0
    assert queue.longest_running == 7.0
    queue.done("a")
    assert queue.longest_running == 2.0


async def test_second_looks_come_after_what_is_new_but_come_under_any_load() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("old")
    assert await take(queue) == "old"
    queue.add("old")  # By what its worker writes.
    queue.done("old")
    order = []
    for number in range(20):
        queue.add(f"new-{number}")
        key = await take(queue)
        assert key is not None
        order.append(key)
        queue.done(key)
    assert order[0] == "new-0"
    assert "old" in order
