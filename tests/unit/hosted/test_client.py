"""What is done for a client ends when it goes."""

import asyncio
from typing import Any

import pytest

from tunesmith_hosted.routing.client import Client, ClientGoneError

pytestmark = pytest.mark.asyncio


class Line:
    """What a client sends: nothing, until it goes."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}


async def test_work_ends_when_the_client_goes() -> None:
    line, begun, ended = Line(), asyncio.Event(), []

    async def work() -> None:
        client = Client(line.receive)
        try:
            with client:
                begun.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    ended.append("work")
                    raise
        except ClientGoneError:
            ended.append("gone")
        with pytest.raises(ClientGoneError), client:  # nothing is begun for it any more
            raise AssertionError
        await asyncio.sleep(0)  # the task itself goes on

    task = asyncio.create_task(work())
    await begun.wait()
    line.gone.set()
    await task
    assert ended == ["work", "gone"]


async def test_a_client_that_stays_ends_nothing() -> None:
    line = Line()
    client = Client(line.receive)
    with client:
        await asyncio.sleep(0)
    with pytest.raises(ValueError, match="own"), client:
        raise ValueError("own")
    await asyncio.sleep(0)
    line.gone.set()  # between two uses
    for _ in range(5):
        await asyncio.sleep(0)
    client.forget()


async def test_others_may_end_it_too() -> None:
    line, begun = Line(), asyncio.Event()

    async def work() -> None:
        with Client(line.receive):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    line.gone.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
