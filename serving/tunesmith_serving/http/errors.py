"""Errors: raised as ApiError, sent in the form of the protocol that the request's path belongs to."""

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from tunesmith_serving.http.error_forms import form_for

logger = logging.getLogger(__name__)


class ApiError(Exception):
    """An error response to a request.

    Attributes:
        status: The HTTP status.
        body: The body in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        error = {"message": _encodable(message), "type": type, "param": _encodable(param), "code": code}
        self.body: dict[str, Any] = {"error": error}
        self.headers = headers

    def response(self, path: str = "") -> JSONResponse:
        """Return the HTTP response to a request for a path, in the form of its protocol."""
        return JSONResponse(form_for(path)(self.status, self.body), self.status, self.headers)


def _encodable(text: str | None) -> str | None:
    """Return a text that UTF-8 can encode: what clients send may have half surrogates."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


def server_error(message: str) -> ApiError:
    """Return the error for a failure of this server, not of the request."""
    return ApiError(500, message, type="server_error", code="internal_error")


def unavailable(message: str) -> ApiError:
    """Return the error for a server that refuses requests now; clients should try again later."""
    return ApiError(503, message, type="server_error", code="unavailable", headers={"Retry-After": "5"})


def install_error_handlers(app: FastAPI, paths: Sequence[str]) -> None:
    """Give every error the form of its protocol, including unknown paths and unexpected exceptions.

    Args:
        app: The application.
        paths: The engine's paths, which the message for an unknown path lists.
    """

    async def api_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)  # noqa: S101 (registered for this type only)
        return error.response(request.url.path)

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101
        path = f"{request.method} {request.url.path}"
        message = {
            404: f"{path} does not exist; this server has {', '.join(paths)}",
            405: f"{path} does not exist with this method",
        }.get(error.status_code, str(error.detail))
        known = ApiError(error.status_code, message, code="not_found", headers=dict(error.headers or {}))
        return known.response(request.url.path)

    async def defect(request: Request, error: Exception) -> JSONResponse:
        logger.exception("%s %s failed", request.method, request.url.path, exc_info=error)
        return server_error("the server failed to process this request; see its log").response(request.url.path)

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, defect)
