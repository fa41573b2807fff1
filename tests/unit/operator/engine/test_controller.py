"""The workers: who is woken, what comes back, what stopping waits for."""

import asyncio
from typing import Any

import pytest

from tunesmith_operator.engine.apply.writer import OutdatedError, Result
from tunesmith_operator.engine.kube.api_errors import ApiUnreachableError
from tunesmith_operator.engine.labels import OWNER_KIND, OWNER_NAME, OWNER_UID
from tunesmith_operator.engine.metrics import Metrics
from tunesmith_operator.engine.reconciler import ApplyError, Context, Decision, ObjectRef
from tunesmith_operator.engine.watch.cache import Key
from tunesmith_operator.engine.watch.store import ObjectStore
from tunesmith_operator.engine.work.burst import NEW_A_SECOND
from tunesmith_operator.engine.work.controller import LONGEST_STREAK, Controller

pytestmark = pytest.mark.asyncio

KubeObject = dict[str, Any]
QUOTA = ApplyError(ObjectRef("Job", "a-1"), 403, "Forbidden", "exceeded quota")


def make(kind: str, name: str, version: int = 1, labels: dict[str, str] | None = None) -> KubeObject:
    metadata = {"name": name, "namespace": "ns", "uid": f"{name}-uid", "resourceVersion": str(version)}
    return {"kind": kind, "metadata": {**metadata, "labels": labels or {}}}


class Reconciler:
    """Notes what it is asked; answers as told."""

    def __init__(self, kind: str, follows: dict[str, str] | None = None) -> None:
        self.kind = kind
        self.follows = follows or {}
        self.seen: list[str] = []
        self.errors: list[tuple[ApplyError, ...]] = []
        self.decision = Decision()
        self.gate: asyncio.Event | None = None

    async def reconcile(self, obj: KubeObject, context: Context) -> Decision:
        self.seen.append(obj["metadata"]["name"])
        self.errors.append(context.errors)
        if self.gate is not None:
            await self.gate.wait()
        return self.decision

    def map_to_names(self, kind: str, obj: KubeObject, store: Any) -> list[str]:
        return [name for name, job in self.follows.items() if kind == "FineTuneJob" and job == obj["metadata"]["name"]]


class Writer:
    """Answers with the next of the given results, then with nothing done."""

    def __init__(self) -> None:
        self.results: list[Result | Exception] = []
        self.forgotten: list[str] = []

    async def apply(self, obj: KubeObject, decision: Decision) -> Result:
        result = self.results.pop(0) if self.results else Result()
        if isinstance(result, Exception):
            raise result
        return result

    def forget(self, uid: str) -> None:
        self.forgotten.append(uid)


class World:
    def __init__(self) -> None:
        self.store = ObjectStore()
        self.jobs = Reconciler("FineTuneJob")
        self.workspaces = Reconciler("InferenceWorkspace", {"w": "a"})
        self.writer = Writer()
        self.metrics = Metrics()
        self.controller = Controller(
            (self.jobs, self.workspaces), self.store, self.writer, None, self.metrics, workers=2  # type: ignore[arg-type]
        )  # fmt: skip

    async def settle(self) -> None:
        async with asyncio.timeout(2):
            while self.controller.queue.depth or self.controller.queue.running:
                await asyncio.sleep(0)

    def count(self, result: str) -> float:
        return self.metrics.registry.get_sample_value(
            "tunesmith_reconciles_total", {"kind": "FineTuneJob", "result": result}
        ) or 0.0  # fmt: skip


@pytest.fixture
def world() -> World:
    return World()


async def test_an_event_wakes_the_object_its_owner_and_its_followers(world: World) -> None:
    labels = {OWNER_UID: "a-uid", OWNER_KIND: "FineTuneJob", OWNER_NAME: "a"}
    world.store.put(make("FineTuneJob", "a"))
    world.store.put(make("InferenceWorkspace", "w", 2))
    world.controller.start()
    await world.settle()
    world.jobs.seen.clear()
    world.workspaces.seen.clear()
    world.store.put(make("Pod", "p", 3, labels))
    await world.settle()
    assert (world.jobs.seen, world.workspaces.seen) == (["a"], [])
    world.store.put(make("FineTuneJob", "a", 4))
    await world.settle()
    assert (world.jobs.seen, world.workspaces.seen) == (["a", "a"], ["w"])
    world.store.put(make("Pod", "stranger", 5))
    await world.settle()
    assert (world.jobs.seen, world.workspaces.seen) == (["a", "a"], ["w"])
    await world.controller.stop()


async def test_a_refusal_is_shown_to_the_reconciler_at_once_and_then_less_and_less(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    retries: list[Key] = []
    monkeypatch.setattr(world.controller.queue, "retry", retries.append)
    world.writer.results = [Result(errors=[QUOTA]), Result(errors=[QUOTA])]
    world.store.put(make("FineTuneJob", "a"))
    world.controller.start()
    await world.settle()
    assert world.jobs.errors == [(), (QUOTA,)]
    assert retries == [Key("FineTuneJob", "ns", "a")]
    world.controller.queue.add(retries[0])  # Its wait is over, and now the child is taken.
    await world.settle()
    assert world.jobs.errors == [(), (QUOTA,), (QUOTA,), ()]
    await world.controller.stop()


@pytest.mark.parametrize(
    ("error", "result"),
    [(ApiUnreachableError("down"), "error"), (OutdatedError("old"), "outdated"), (ZeroDivisionError(), "error")],
)
async def test_a_failure_comes_back_and_ends_no_worker(
    world: World, error: Exception, result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    retries: list[Key] = []
    monkeypatch.setattr(world.controller.queue, "retry", retries.append)
    world.writer.results = [error]
    world.store.put(make("FineTuneJob", "a"))
    world.controller.start()
    await world.settle()
    assert retries == [Key("FineTuneJob", "ns", "a")]
    assert world.count(result) == 1
    assert world.controller.is_running
    await world.controller.stop()


async def test_what_is_written_over_and_over_is_slowed_down(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    delayed: list[Key] = []
    monkeypatch.setattr(world.controller.queue, "add_after", lambda key, seconds: delayed.append(key))
    version = 1

    async def write_always(obj: KubeObject, decision: Decision) -> Result:
        nonlocal version
        version += 1
        world.store.put(make("FineTuneJob", "a", version))
        return Result(has_written=True)

    monkeypatch.setattr(world.writer, "apply", write_always)
    world.store.put(make("FineTuneJob", "a"))
    world.controller.start()
    await world.settle()
    assert LONGEST_STREAK <= len(world.jobs.seen) <= LONGEST_STREAK + 1
    assert delayed
    await world.controller.stop()


async def test_an_object_that_is_gone_is_forgotten(world: World) -> None:
    world.store.put(make("FineTuneJob", "a"))
    world.controller.start()
    await world.settle()
    world.store.remove(make("FineTuneJob", "a", 2))
    await world.settle()
    assert world.writer.forgotten == ["a-uid"]
    assert world.count("gone") == 1
    await world.controller.stop()


async def test_stopping_lets_what_is_under_way_end_and_starts_nothing_more(world: World) -> None:
    world.jobs.gate = asyncio.Event()
    for name in ("a", "b", "c"):
        world.store.put(make("FineTuneJob", name))
    world.controller.start()
    while world.controller.queue.running < 2:
        await asyncio.sleep(0)
    stopping = asyncio.create_task(world.controller.stop())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not stopping.done()
    world.jobs.gate.set()
    await asyncio.wait_for(stopping, 1)
    assert sorted(world.jobs.seen) == ["a", "b"]
    assert (world.controller.queue.depth, world.controller.queue.running) == (1, 0)
    assert world.count("ok") == 2


async def test_stopping_at_once_cancels_what_is_under_way(world: World) -> None:
    world.jobs.gate = asyncio.Event()
    world.store.put(make("FineTuneJob", "a"))
    world.controller.start()
    while not world.controller.queue.running:
        await asyncio.sleep(0)
    await asyncio.wait_for(world.controller.stop(seconds=0), 1)
    assert world.controller.queue.running == 0
    world.jobs.gate.set()
    world.controller.start()
    world.controller.enqueue_all()
    await world.settle()
    assert world.jobs.seen == ["a", "a"]
    await world.controller.stop()


async def test_in_a_burst_the_children_come_before_the_status(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    carried: list[tuple[str, bool]] = []
    apply = world.writer.apply

    async def record(obj: KubeObject, decision: Decision) -> Result:
        carried.append((obj["metadata"]["name"], decision.status is not None))
        return await apply(obj, decision)

    monkeypatch.setattr(world.writer, "apply", record)
    world.jobs.decision = Decision(status={"phase": "Pending"}, create=({"kind": "Job", "metadata": {"name": "x"}},))
    world.controller.start()
    count = 3 * NEW_A_SECOND
    for number in range(count):
        world.store.put(make("FineTuneJob", f"job-{number:03}", number + 1))
    await world.settle()
    assert [status for _, status in carried] == [True] * (NEW_A_SECOND - 1) + [False] * (count - NEW_A_SECOND + 1)
    world.store.put(make("FineTuneJob", "job-050", 500))  # What its children bring about waits too.
    await world.settle()
    assert len(carried) == count
    async with asyncio.timeout(5):
        while sum(status for _, status in carried) < count:
            await asyncio.sleep(0.01)
    assert {name for name, status in carried if status} == {f"job-{number:03}" for number in range(count)}
    await world.controller.stop()
