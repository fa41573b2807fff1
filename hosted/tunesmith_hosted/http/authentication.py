"""Finds out who makes a request, by its key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.http.errors import ApiError

FindCaller = Callable[[str], Awaitable[Caller | None]]


class Authentication:
    """A middleware that sets `request.state.caller`, and refuses a key that is not valid.

    `OpenAI-Organization` and `OpenAI-Project` must be those of the key, where a client sends them.
    """

    def __init__(self, app: ASGIApp, find_caller: FindCaller) -> None:
        self._app = app
        self._find_caller = find_caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            scheme, _, key = headers.get("authorization", "").partition(" ")
            if scheme.lower() == "bearer" and key.strip():
                caller = await self._find_caller(key.strip())
                error = _refusal(caller, headers)
                if error is not None:
                    await error.response()(scope, receive, send)
                    return
                scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)


def _refusal(caller: Caller | None, headers: Headers) -> ApiError | None:
    if caller is None:
        message = "This API key is not valid: it is unknown, expired or revoked. Ask the project's owner for one."
        return ApiError(401, message, code="invalid_api_key")
    organizations = {caller.organization_id, caller.organization}
    if headers.get("openai-organization", caller.organization) not in organizations:
        message = "OpenAI-Organization is not the key's organization; leave the header out"
        return ApiError(401, message, code="mismatched_organization")
    if headers.get("openai-project", caller.project_id) != caller.project_id:
        message = "OpenAI-Project is not the key's project; leave the header out"
        return ApiError(401, message, code="mismatched_project")
    return None
