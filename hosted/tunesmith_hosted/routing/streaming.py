"""A streamed answer on its way to the client."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

import aiohttp
from fastapi import Response
from starlette.types import Receive, Scope, Send

from tunesmith_hosted.routing.answers import Events
from tunesmith_hosted.routing.client import Client, ClientGoneError
from tunesmith_hosted.routing.upstream import server_gone


class Streamed(Response):
    """Sends events on as they come. When the client goes, the server's work for it ends too.

    Args:
        answer: The server's answer, whose body has not been read.
        events: Changes the events.
        client: Who reads it.
        using: Keeps the model awake meanwhile.
        count: Counts the request, when it has ended.
    """

    def __init__(
        self,
        answer: aiohttp.ClientResponse,
        events: Events,
        client: Client,
        using: AbstractContextManager[None],
        count: Callable[[], None],
    ) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self._answer, self._events, self._client = answer, events, client
        self._using, self._count = using, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        try:
            with suppress(ClientGoneError), self._client, self._using:
                await self._pump(send)
        finally:
            self._client.forget()
            self._answer.close()  # ends the server's work, if it has not ended
            self._count()

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async for data in self._answer.content.iter_any():
                if out := self._events.feed(data):
                    await send({"type": "http.response.body", "body": out, "more_body": True})
            last = b""
        except (aiohttp.ClientError, TimeoutError):
            last = self._events.failure(server_gone())
        await send({"type": "http.response.body", "body": last, "more_body": False})
