"""What a request is counted as."""

import asyncio
from typing import Any

import pytest

from tunesmith_serving.http.metrics import RequestCounter, RouteLabels


class Counted:
    def __init__(self) -> None:
        self.codes: list[int] = []

    def count(self, route: str, code: int) -> None:
        self.codes.append(code)


def counted(app: Any, fails: bool = False) -> list[int]:
    metrics = Counted()
    counter = RequestCounter(app, metrics, RouteLabels(["/a"]))  # type: ignore[arg-type]

    async def nothing(*_: object) -> Any:
        return {"type": "http.disconnect"}

    async def run() -> None:
        await counter({"type": "http", "path": "/a"}, nothing, nothing)

    if fails:
        with pytest.raises(RuntimeError):
            asyncio.run(run())
    else:
        asyncio.run(run())
    return metrics.codes


def test_an_unexpected_error_is_no_client_that_has_left() -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("broken")

    async def broken_later(_: object, __: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        raise RuntimeError("broken")

    async def silent(*_: object) -> None:
        return

    assert counted(broken, fails=True) == [500]
    assert counted(broken_later, fails=True) == [200]
    assert counted(silent) == [499]
