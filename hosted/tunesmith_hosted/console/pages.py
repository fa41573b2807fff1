"""The console's files, and the small pages that the service writes itself."""

from __future__ import annotations

import html
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

from tunesmith_hosted.http.errors import ApiError

PATH = "/console"

SECURITY = {
    "content-security-policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Headers of all pages: nothing comes from anywhere else, and no other site shows them in a frame."""

_HASHED = "public, max-age=31536000, immutable"
_ASSETS, _API = "assets/", "api/"
_CHECKOUT = Path(__file__).parents[3] / "console" / "dist"
_PACKAGED = Path(__file__).parent / "static"
_NOT_BUILT = "The console is not built here. In a checkout, build it with: make console"

router = APIRouter(include_in_schema=False)


@router.get("/")
async def root(request: Request) -> Response:
    """Send browsers to the console."""
    if "text/html" not in request.headers.get("accept", ""):
        raise ApiError(404, "Invalid URL (GET /); the API is at /v1")
    return RedirectResponse(f"{PATH}/", 307)


@router.get(PATH)
async def without_slash() -> Response:
    """Send browsers to where relative links are right."""
    return RedirectResponse(f"{PATH}/", 307)


def console_files(folder: Path | None = None) -> ASGIApp:
    """Return the application that serves the console's files below `PATH`.

    Args:
        folder: The built console; by default that of the checkout, or else the package's own.
    """
    return GZipMiddleware(_ConsoleFiles(folder), minimum_size=1024, compresslevel=6)


class _ConsoleFiles(StaticFiles):
    """Files of the built console. Its own paths are those that are no file: they get index.html."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        super().__init__(directory=folder or _PACKAGED, check_dir=False)

    async def check_config(self) -> None:
        """Check nothing: where the console is not built, a page says so."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, index.html, or how to build the console."""
        path = path.replace("\\", "/").removeprefix("./")
        if f"{path}/".startswith(_API):
            raise HTTPException(404)
        # A checkout may be built while the service runs.
        self.all_directories = [self._folder or (_CHECKOUT if (_CHECKOUT / "index.html").is_file() else _PACKAGED)]
        try:
            found = await super().get_response("index.html" if path == "." else path, scope)
        except HTTPException as error:
            if error.status_code != 404 or path.startswith(_ASSETS):
                raise
            try:
                found = await super().get_response("index.html", scope)
            except HTTPException:
                return message_page("The console is not built", _NOT_BUILT, 404)
        found.headers.update({**SECURITY, "cache-control": _HASHED if path.startswith(_ASSETS) else "no-cache"})
        return found


def message_page(title: str, text: str, status: int) -> HTMLResponse:
    """Return a page that says something."""
    content = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)} - Tunesmith</title>'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f'<main><h1>{html.escape(title)}</h1><p>{html.escape(text)}.</p><p><a href="{PATH}/">To the console</a></p>'
        "</main></html>"
    )
    return HTMLResponse(content, status, {**SECURITY, "cache-control": "no-store"})
