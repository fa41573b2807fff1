"""The application of `tunesmith ui`."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith_hosted.console import pages
from tunesmith_hosted.console.work_folder.routes import MISSING, router
from tunesmith_hosted.http.authentication import CONSOLE_HEADER
from tunesmith_hosted.http.errors import ApiError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""What the address may be: there are no keys."""

_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


def create_folder_app(root: Path, console: Path | None = None) -> FastAPI:
    """Return the console over the work folders below a folder.

    Args:
        root: The folder, as `tunesmith run --work` has it.
        console: The built console; by default that of the checkout, or else the package's own.
    """
    app = FastAPI(title="Tunesmith", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.root = root.resolve()
    app.add_middleware(_FromHere)
    # A name of another site that leads to this machine is refused too.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS, www_redirect=False)
    app.include_router(router)
    app.include_router(pages.router)
    app.mount(pages.PATH, pages.console_files(console))

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        if request.url.path.startswith(("/v1/", "/console/api/")) and error.status_code in (404, 405):
            message = f"`tunesmith ui` does not have this: {_missing(request.url.path)}. `tunesmith hosted` has it"
            return ApiError(404, message, code="not_in_this_mode").response()
        return ApiError(error.status_code, str(error.detail)).response()

    return app


def _missing(path: str) -> str:
    """Return what a path asks for that there is not in this mode, and what to do instead."""
    if "/files" in path or "/uploads" in path:
        return MISSING["files"]
    if "/usage" in path or "/costs" in path:
        return MISSING["usage"]
    if "/organization" in path or "/log" in path:
        return MISSING["keys"]
    return MISSING["jobs"]


class _FromHere:
    """A middleware that takes changes only from the console's own pages, and from programs of this machine."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http" and scope["method"] not in _READS:
            headers = HTTPConnection(scope).headers
            if "origin" in headers and CONSOLE_HEADER not in headers:
                message = f"A page must send the header {CONSOLE_HEADER}: 1 to ask a model"
                await ApiError(403, message, code="missing_console_header").response()(scope, receive, send)
                return
        await self._app(scope, receive, send)
