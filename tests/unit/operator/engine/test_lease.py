"""Leader election on a clock that stands still unless told."""

import asyncio
from typing import Any

import pytest

from support.fake_api import FakeClient
from tunesmith_operator.engine.kube.api_errors import ApiError, ApiUnreachableError
from tunesmith_operator.engine.leadership.lease import LeaderElection, LeaseClient

pytestmark = pytest.mark.asyncio

PATH = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/l"
SECONDS = 15.0


class World:
    """One Lease and one clock that several replicas share; sleeping moves the clock."""

    def __init__(self) -> None:
        self.client = FakeClient()
        self.now = 1000.0

    def replica(self, name: str) -> LeaderElection:
        lease = LeaseClient(self.client, "ns", "l", SECONDS / 5)  # type: ignore[arg-type]
        return LeaderElection(lease, name, SECONDS, clock=lambda: self.now, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)

    @property
    def spec(self) -> dict[str, Any]:
        return self.client.objects[PATH]["spec"]


async def test_the_first_takes_it_and_the_second_waits() -> None:
    world = World()
    first, second = world.replica("first"), world.replica("second")
    assert await first.try_to_take()
    assert not await second.try_to_take()
    assert world.spec["holderIdentity"] == "first"
    assert world.spec["leaseTransitions"] == 1


async def test_it_is_taken_only_after_its_whole_length_without_a_change_by_ones_own_clock() -> None:
    world = World()
    first, second = world.replica("first"), world.replica("second")
    await first.try_to_take()
    world.now += 100  # The renewTime in the lease is old by now, but the second has never seen it before.
    assert not await second.try_to_take()
    world.now += SECONDS - 0.1
    assert not await second.try_to_take()
    world.now += 0.1
    assert await second.try_to_take()
    assert world.spec["leaseTransitions"] == 2


async def test_a_renewal_starts_the_length_anew() -> None:
    world = World()
    first, second = world.replica("first"), world.replica("second")
    await first.try_to_take()
    for _ in range(10):
        assert not await second.try_to_take()
        world.now += SECONDS / 2
        assert await first.try_to_take()


async def test_a_released_lease_is_taken_at_once() -> None:
    world = World()
    first, second = world.replica("first"), world.replica("second")
    await first.try_to_take()
    assert not await second.try_to_take()
    await first.release()
    assert world.spec["holderIdentity"] == ""
    assert await second.try_to_take()
    await first.release()
    assert world.spec["holderIdentity"] == "second"


async def test_a_release_after_a_renewal_whose_answer_was_lost() -> None:
    world = World()
    first = world.replica("first")
    await first.try_to_take()
    world.client.store(PATH, world.client.objects[PATH])  # It arrived; only its answer did not.
    await first.release()
    assert world.spec["holderIdentity"] == ""


async def test_two_that_write_at_once_do_not_both_have_it() -> None:
    world = World()
    first, second = world.replica("first"), world.replica("second")
    await first.try_to_take()
    await first.release()
    await first.try_to_take()
    await first.release()
    assert await second.try_to_take()
    assert not await first.try_to_take()


async def test_holding_ends_before_others_may_take_it() -> None:
    world = World()
    first, second = world.replica("first"), world.replica("second")
    await first.try_to_take()
    await second.try_to_take()
    renewed_at = world.now
    world.client.refuse[("PUT", PATH)] = ApiError(500, "", "down")
    await first.hold()
    assert world.now - renewed_at <= first.deadline_seconds < SECONDS
    del world.client.refuse[("PUT", PATH)]
    assert not await second.try_to_take()


async def test_holding_goes_on_through_a_short_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    first = world.replica("first")
    await first.try_to_take()
    calls = 0
    request = world.client.request

    async def flaky(method: str, path: str, **rest: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise ApiUnreachableError("down")
        if calls > 60:
            raise asyncio.CancelledError
        return await request(method, path, **rest)

    monkeypatch.setattr(world.client, "request", flaky)
    with pytest.raises(asyncio.CancelledError):
        await first.hold()
    assert world.spec["holderIdentity"] == "first"


async def test_holding_ends_when_another_has_it() -> None:
    world = World()
    first = world.replica("first")
    await first.try_to_take()
    held = world.client.objects[PATH]
    world.client.store(PATH, {**held, "spec": {**held["spec"], "holderIdentity": "other"}})
    before = world.now
    await first.hold()
    assert world.now - before == first.retry_seconds


async def test_since_when_it_leads() -> None:
    world = World()
    first = world.replica("first")
    await first.try_to_take()
    since = first.led_since
    world.now += 5
    await first.try_to_take()
    assert first.led_since == since
    await first.release()
    world.now += 5
    await first.try_to_take()
    assert first.led_since == world.now
