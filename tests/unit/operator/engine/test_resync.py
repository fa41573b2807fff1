"""The timer of the resync."""

import asyncio
from typing import Any

import pytest

from tunesmith_operator.engine.metrics import Metrics
from tunesmith_operator.engine.watch.resync import Resync
from tunesmith_operator.engine.watch.store import ObjectStore


class EmptyCluster:
    """A client of an API server that has no objects."""

    async def request(self, *_: Any, **__: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"items": [], "metadata": {"resourceVersion": "1"}}


@pytest.mark.parametrize("turns", range(6))
def test_it_ends_when_it_is_cancelled_while_a_resync_is_requested(turns: int) -> None:
    """At each turn of the loop: a watch that opens anew while the operator is stopping must not keep it alive."""

    async def run() -> bool:
        resync = Resync(EmptyCluster(), ObjectStore(), Metrics(), ())  # type: ignore[arg-type]
        task = asyncio.create_task(resync.run(3600, lambda: None))
        for _ in range(10):
            await asyncio.sleep(0)
        resync.request()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        for _ in range(100):
            await asyncio.sleep(0)
        return task.done()

    assert asyncio.run(run())
