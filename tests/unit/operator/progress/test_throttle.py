"""Progress is written now and then, and the newest in the end."""

import asyncio
from typing import Any

import pytest

from support.fake_api import FakeClient
from tunesmith_operator.engine.kube.api_errors import ApiError
from tunesmith_operator.engine.watch.store import ObjectStore
from tunesmith_operator.progress.throttle import ProgressWriter, has_ended

pytestmark = pytest.mark.asyncio

PATH = "/apis/tunesmith.dev/v1alpha1/namespaces/ns/finetunejobs/j"
INTERVAL = 0.03


class World:
    def __init__(self) -> None:
        self.client = FakeClient()
        self.store = ObjectStore()
        self.writer = ProgressWriter(self.client, self.store, INTERVAL)  # type: ignore[arg-type]
        metadata = {"name": "j", "namespace": "ns"}
        self.put({"apiVersion": "tunesmith.dev/v1alpha1", "kind": "FineTuneJob", "metadata": metadata})

    def put(self, obj: dict[str, Any]) -> None:
        self.store.put(self.client.store(PATH, obj))

    @property
    def job(self) -> dict[str, Any]:
        obj = self.store.get("FineTuneJob", "ns", "j")
        assert obj is not None
        return obj

    def written(self) -> list[int]:
        return [body["status"]["progress"]["step"] for body in self.client.bodies]


@pytest.fixture
def world() -> World:
    return World()


async def test_the_first_at_once_then_the_newest_of_each_interval(world: World) -> None:
    for step in range(1, 21):
        assert world.writer.submit(world.job, "train", {"step": step})
        await asyncio.sleep(0)
    assert len(world.written()) == 1
    async with asyncio.timeout(2):
        while world.written()[-1:] != [20]:
            await asyncio.sleep(0.001)
    assert len(world.written()) == 2
    assert world.job["status"]["progress"] == {"stage": "train", "step": 20}
    await world.writer.close()


async def test_what_waits_is_written_at_the_end(world: World) -> None:
    world.writer.submit(world.job, "train", {"step": 1})
    await asyncio.sleep(0)
    world.writer.submit(world.job, "train", {"step": 2})
    await world.writer.close()
    assert world.written()[-1] == 2


async def test_a_late_report_is_ignored(world: World) -> None:
    world.put({**world.job, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    assert not world.writer.submit(world.job, "train", {"step": 3})
    await world.writer.close()
    assert world.client.requests == []


async def test_one_that_waited_while_the_job_ended_is_ignored(world: World) -> None:
    world.writer.submit(world.job, "train", {"step": 1})
    await asyncio.sleep(0)
    world.writer.submit(world.job, "train", {"step": 2})
    world.put({**world.job, "status": {"conditions": [{"type": "Stalled", "status": "True"}]}})
    await world.writer.close()
    assert world.written() == [1]


async def test_one_for_a_predecessor_of_the_same_name_is_ignored(world: World) -> None:
    world.writer.submit(world.job, "train", {"step": 1})
    await asyncio.sleep(0)
    world.writer.submit(world.job, "train", {"step": 2})
    successor = {**world.job, "metadata": {**world.job["metadata"], "uid": "another"}}
    world.put(successor)
    await world.writer.close()
    assert world.written() == [1]


async def test_a_write_that_fails_does_not_end_the_writing(world: World) -> None:
    world.client.refuse[("PATCH", f"{PATH}/status")] = ApiError(403, "Forbidden", "no")
    world.writer.submit(world.job, "train", {"step": 1})
    await asyncio.sleep(0)
    world.client.refuse.clear()
    world.writer.submit(world.job, "train", {"step": 2})
    await world.writer.close()
    assert world.job["status"]["progress"]["step"] == 2


@pytest.mark.parametrize(
    ("conditions", "ended"),
    [
        ([], False),
        ([{"type": "Ready", "status": "Unknown"}], False),
        ([{"type": "Reconciling", "status": "True"}], False),
        ([{"type": "Ready", "status": "True"}], True),
        ([{"type": "Stalled", "status": "True"}], True),
    ],
)
async def test_whether_a_job_has_ended(conditions: list[dict[str, str]], ended: bool) -> None:
    assert has_ended({"status": {"conditions": conditions}}) is ended
