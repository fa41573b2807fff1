"""Limits requests to models, and tells clients how they stand to the limits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith_hosted.config.settings import Quotas
from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.http.errors import MOST_BODY_BYTES, ApiError, body_too_large
from tunesmith_hosted.tenants.rates.limiter import RateLimiter

PATHS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"})
_BYTES_A_TOKEN = 4
_USUAL_ANSWER = 256  # tokens that are taken where a request does not limit its answer
_ANSWER_FIELDS = ("max_completion_tokens", "max_output_tokens", "max_tokens")


@dataclass(frozen=True)
class Admission:
    """A request that was let in, in `request.state.admission`.

    Attributes:
        settle: Corrects the tokens that were taken, by estimate, to those that were used. Not needed: what is not
            corrected stays taken for a minute.
    """

    settle: Callable[[int], None]


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
        quotas = self._defaults.model_copy(update=dict(caller.quotas))
        try:
            body, receive = await _body(receive)
            taken = await self._limiter.take(caller.project_id, quotas, estimate(body))
        except ApiError as error:
            await error.response()(scope, receive, send)
            return

        def settle(used: int) -> None:
            self._limiter.settle(caller.project_id, taken, used)

        async def limited(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(taken.headers())
            await send(message)

        scope["state"]["admission"] = Admission(settle)
        await self._app(scope, receive, limited)


def estimate(body: bytes) -> int:
    """Return the tokens of a request and its answer: the body's length, and the longest answer that it allows."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return 0
    if not isinstance(fields, dict):
        return 0
    longest = next((value for name in _ANSWER_FIELDS if (value := _positive(fields.get(name))) is not None), None)
    return len(body) // _BYTES_A_TOKEN + (_USUAL_ANSWER if longest is None else longest) * (
        _positive(fields.get("n")) or 1
    )


def _positive(value: Any) -> int | None:  # noqa: ANN401 - of a body that nobody has checked
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31 else None


async def _body(receive: Receive) -> tuple[bytes, Receive]:
    """Return the body, and what the application receives it by.

    Raises:
        ApiError: It is too long for a request to a model.
    """
    messages: list[Message] = []
    size, more = 0, True
    while more:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if size > MOST_BODY_BYTES:
            raise body_too_large()
        more = message["type"] == "http.request" and message.get("more_body", False)
    body = b"".join(message.get("body", b"") for message in messages)

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    return body, again
