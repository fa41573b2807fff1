"""Calls routes that are asked often past all that FastAPI does for a route, which takes as long as routing itself."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith_hosted.http.errors import ApiError


class Shortcut:
    """The innermost middleware. What it does not know goes on to the application, such as wrong methods.

    Args:
        app: The application.
        router: Its routes are POST, have no parameters in their paths, and take the request alone.
    """

    def __init__(self, app: ASGIApp, router: APIRouter) -> None:
        self._app = app
        self._routes = {route.path: route for route in router.routes if isinstance(route, APIRoute)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        route = self._routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        try:
            response = await route.endpoint(Request(scope, receive, send))
        except ApiError as error:
            response = error.response()
        await response(scope, receive, send)
