"""The client of a request, who may go before it has its answer."""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.types import Receive


class ClientGoneError(Exception):
    """The client has closed its connection, so nobody reads an answer."""


class Client:
    """Ends what is done for a client when that goes.

    `with client:` raises ClientGoneError where the client goes meanwhile, after CancelledError inside. It costs one
    task for each request, as a task for what is done would cost another.

    Args:
        receive: Receives what the client sends after the body of its request: that it has gone.
    """

    def __init__(self, receive: Receive) -> None:
        self._working: asyncio.Task[None] | None = None
        self._ended = False
        self._watch = asyncio.create_task(_left(receive))
        self._watch.add_done_callback(self._end)

    def forget(self) -> None:
        """Look no longer whether it is there."""
        self._watch.cancel()

    def __enter__(self) -> None:
        if self._watch.done():
            raise ClientGoneError
        self._working = asyncio.current_task()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        working, self._working = self._working, None
        # As asyncio.timeout does: somebody else may have cancelled the task too, which goes before.
        if self._ended and working is not None and working.uncancel() <= 0 and kind is not None:
            if issubclass(kind, asyncio.CancelledError):
                raise ClientGoneError from error

    def _end(self, watch: asyncio.Task[None]) -> None:
        if self._working is not None and not watch.cancelled():
            self._ended = True
            self._working.cancel()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
