"""Limits requests to models, and tells clients how they stand to the limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith_hosted.config.settings import Quotas
from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.http.errors import MOST_BODY_BYTES, ApiError, body_too_large
from tunesmith_hosted.http.strict_json import object_of
from tunesmith_hosted.tenants.rates.admission import Admission
from tunesmith_hosted.tenants.rates.limiter import RateLimiter

PATHS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"})
_BYTES_A_TOKEN = 4
_USUAL_ANSWER = 256  # tokens that are taken where a request does not limit its answer
_ANSWER_FIELDS = ("max_completion_tokens", "max_output_tokens", "max_tokens")


class RateLimits:
    """A middleware inside authentication. Requests take their tokens before they run, so that no limit is exceeded."""

    def __init__(self, app: ASGIApp, limiter: RateLimiter, defaults: Quotas) -> None:
        self._app = app
        self._limiter = limiter
        self._defaults = defaults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        caller: Caller | None = scope.get("state", {}).get("caller")
        if caller is None or scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in PATHS:
            await self._app(scope, receive, send)
            return
        own = caller.quotas
        quotas = self._defaults.model_copy(update=dict(own)) if own else self._defaults
        try:
            body, receive = await _body(receive)
            fields = object_of(body)
            taken = await self._limiter.take(caller.project_id, quotas, estimate(fields, len(body)))
        except ApiError as error:
            await error.response()(scope, receive, send)
            return

        def settle(used: int) -> None:
            self._limiter.settle(caller.project_id, taken, used)

        async def limited(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *taken.raw_headers()]
            await send(message)

        scope["state"]["admission"] = Admission(settle, body, fields)
        await self._app(scope, receive, limited)


def estimate(fields: Mapping[str, Any] | None, size: int) -> int:
    """Return the tokens of a request and its answer: the body's length, and the longest answer that it allows."""
    if fields is None:
        return 0
    longest = next((value for name in _ANSWER_FIELDS if (value := _positive(fields.get(name))) is not None), None)
    return size // _BYTES_A_TOKEN + (_USUAL_ANSWER if longest is None else longest) * (_positive(fields.get("n")) or 1)


def _positive(value: Any) -> int | None:  # noqa: ANN401 - of a body that nobody has checked
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31 else None


async def _body(receive: Receive) -> tuple[bytes, Receive]:
    """Return the body, and what the application receives it by.

    Raises:
        ApiError: It is too long for a request to a model.
        ClientDisconnect: The client has gone before its end.
    """
    messages: list[Message] = []
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        messages.append(message)
        part = message.get("body", b"")
        body = body + part if body else part  # mostly there is one
        if len(body) > MOST_BODY_BYTES:
            raise body_too_large()
        more = message.get("more_body", False)

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    return body, again
