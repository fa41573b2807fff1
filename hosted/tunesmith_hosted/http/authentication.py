"""Finds out who makes a request, by its key or by the cookie of a person who is signed in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith_hosted.http.caller import Caller
from tunesmith_hosted.http.errors import ApiError

FindCaller = Callable[[str], Awaitable[Caller | None]]
FindSession = Callable[[Mapping[str, str]], Awaitable[Caller | None]]

CONSOLE_HEADER = "x-tunesmith-console"
"""What a request with a cookie must have to change something: pages of other sites cannot send it."""

_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class Authentication:
    """A middleware that sets `request.state.caller`, and refuses a key that is not valid.

    `OpenAI-Organization` and `OpenAI-Project` must be those of the key, where a client sends them. A cookie counts only
    where there is no key.
    """

    def __init__(self, app: ASGIApp, find_caller: FindCaller, find_session: FindSession | None = None) -> None:
        self._app = app
        self._find_caller = find_caller
        self._find_session = find_session

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
            elif self._find_session is not None and "cookie" in headers:
                caller = await self._find_session(cookie_parser(headers["cookie"]))
                if caller is not None and scope["method"] not in _READS and CONSOLE_HEADER not in headers:
                    await _forged().response()(scope, receive, send)
                    return
                if caller is not None:
                    scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)


def _forged() -> ApiError:
    message = f"A request that changes something by a cookie needs the header {CONSOLE_HEADER}: 1, or give an API key"
    return ApiError(403, message, code="missing_console_header")


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
