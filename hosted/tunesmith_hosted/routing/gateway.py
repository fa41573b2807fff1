"""Sends a request to the server of its model, and the answer back."""

from __future__ import annotations

import asyncio

import aiohttp
from fastapi import Request, Response

from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.http.errors import ApiError
from tunesmith_hosted.routing.accounting import Accounting
from tunesmith_hosted.routing.answers import Api, Events, Tokens, whole
from tunesmith_hosted.routing.body import Asked, read
from tunesmith_hosted.routing.client import Client, ClientGoneError
from tunesmith_hosted.routing.streaming import Streamed
from tunesmith_hosted.routing.targets import Target, Targets
from tunesmith_hosted.routing.upstream import NothingSentError, is_other_model, post
from tunesmith_hosted.routing.upstream import read as read_answer
from tunesmith_hosted.tenants.rates.admission import admission_of

_TRIES = 3
_PAUSE_SECONDS = 0.2
_CLIENT_GONE = 499
_PASSED_ON = ("content-type", "retry-after")


class Gateway:
    """Answers requests by asking servers.

    Args:
        context: The service.
        session: Keeps connections to servers.
    """

    def __init__(self, context: Context, session: aiohttp.ClientSession) -> None:
        self.accounting = Accounting(context)
        self.targets = Targets(context)
        self._session = session

    async def answer(self, request: Request, caller: Caller, api: Api) -> Response:
        """Return the response to a request.

        Raises:
            ApiError: It cannot be answered.
        """
        try:
            asked = Asked(*await read(request))
        except ClientGoneError:
            return Response(status_code=_CLIENT_GONE)
        client = Client(request.receive)
        handed_over = False
        try:
            with client:
                target = self.targets.known(caller, asked.model)
                if target is None:
                    target = await self.targets.awake(caller, asked.model)
                with self.accounting.using(target):
                    answer, body = await self._send(caller, asked, target, api)
            if answer.status == 200 and asked.stream:
                handed_over = True
                events = Events(api, target.served, asked.model, show_usage=asked.wants_usage)

                def count() -> None:
                    self._count(request, caller, target, events.tokens)

                return Streamed(answer, events, client, self.accounting.using(target), count)
        except ClientGoneError:
            return Response(status_code=_CLIENT_GONE)
        finally:
            if not handed_over:
                client.forget()
        headers = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
        if answer.status != 200:
            if is_other_model(answer.status, body):
                self.targets.forget(caller, asked.model)
                raise _unavailable(asked.model)
            return Response(body, answer.status, headers)
        body, tokens = whole(body, asked.model)
        self._count(request, caller, target, tokens)
        return Response(body, 200, headers)

    def _count(self, request: Request, caller: Caller, target: Target, tokens: Tokens | None) -> None:
        self.accounting.add(caller.project_id, target.name, tokens)
        admission = admission_of(request)
        if admission is not None and tokens is not None:
            admission.settle(tokens.input + tokens.output)

    async def _send(
        self, caller: Caller, asked: Asked, target: Target, api: Api
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """Return the answer, and its body unless that is streamed."""
        for attempt in range(_TRIES):
            body = asked.sent(target.served, with_usage=api != "responses")
            try:
                answer = await post(self._session, f"{target.endpoint}/{api}", body)
            except NothingSentError:
                self.targets.forget(caller, asked.model)
                if attempt < _TRIES - 1:
                    await asyncio.sleep(_PAUSE_SECONDS * (attempt + 1))
                    target = await self.targets.awake(caller, asked.model)
                continue
            if answer.status == 200 and asked.stream:
                return answer, b""
            try:
                return answer, await read_answer(answer)
            finally:
                answer.close()  # nothing happens if it was read to its end
        raise _unavailable(asked.model)


def _unavailable(model: str) -> ApiError:
    message = f"The server of the model `{model}` cannot be reached; try again"
    return ApiError(503, message, type="server_error", code="model_not_ready", headers={"Retry-After": "2"})
