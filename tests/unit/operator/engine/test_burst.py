"""A burst of new objects: what waits, and for how long."""

import asyncio

import pytest

from tunesmith_operator.engine.work import burst as module
from tunesmith_operator.engine.work.burst import LONGEST_WAIT_SECONDS, NEW_A_SECOND, CreationBurst

pytestmark = pytest.mark.asyncio


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.released: list[str] = []
        self.burst: CreationBurst[str] = CreationBurst(self.released.append, clock=lambda: self.now)

    def come(self, count: int, seconds: float) -> None:
        for _ in range(count):
            self.now += seconds / count
            self.burst.note_new()


@pytest.fixture
def world() -> World:
    return World()


async def test_it_takes_many_in_a_second(world: World) -> None:
    world.come(NEW_A_SECOND - 1, 0.5)
    assert not world.burst.is_on
    world.come(1, 0.01)
    assert world.burst.is_on
    world.now += 1.0
    assert not world.burst.is_on
    world.come(3 * NEW_A_SECOND, 4.0)  # 15 a second
    assert not world.burst.is_on


async def test_what_is_held_waits_for_its_end(world: World) -> None:
    world.come(NEW_A_SECOND, 0.2)
    for key in ("a", "b", "a"):
        world.burst.hold(key)
    world.burst.check()
    assert (world.released, world.burst.held) == ([], 2)
    world.now += 2.0
    world.burst.check()
    assert (world.released, world.burst.held) == (["a", "b"], 0)


async def test_nothing_waits_for_long_however_long_it_lasts(world: World) -> None:
    world.come(NEW_A_SECOND, 0.2)
    world.burst.hold("a")
    world.come(1000, LONGEST_WAIT_SECONDS - 0.1)
    world.burst.hold("b")
    world.burst.check()
    assert world.released == []
    world.come(100, 0.2)
    world.burst.check()
    assert world.burst.is_on
    assert world.released == ["a"]


async def test_it_looks_by_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHECK_SECONDS", 0.01)
    world.come(NEW_A_SECOND, 0.2)
    world.burst.hold("a")
    await asyncio.sleep(0.03)
    assert world.released == []
    world.now += 2.0
    async with asyncio.timeout(2):
        while not world.released:
            await asyncio.sleep(0.005)
