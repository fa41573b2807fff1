"""Finds out who makes a request, by its key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request, Response

from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.http.errors import ApiError

FindCaller = Callable[[str], Awaitable[Caller | None]]


def authentication(
    find_caller: FindCaller,
) -> Callable[[Request, Callable[[Request], Awaitable[Response]]], Awaitable[Response]]:
    """Return a middleware that sets `request.state.caller`, and refuses a key that is not valid.

    Args:
        find_caller: Returns who has a key.
    """

    async def middleware(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and key:
            caller = await find_caller(key.strip())
            if caller is None:
                message = (
                    "This API key is not valid: it is unknown, expired or revoked. Ask the project's owner for one."
                )
                return ApiError(401, message, code="invalid_api_key").response()
            request.state.caller = caller
        return await call_next(request)

    return middleware
