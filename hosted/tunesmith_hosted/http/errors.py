"""Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse

MOST_BODY_BYTES = 4 << 20
"""The largest body of a request to a model; servers of models take no larger one."""


class ApiError(Exception):
    """An error response to a request.

    Attributes:
        status: The HTTP status.
        body: The body.
        headers: Headers of the response.
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
        self.body: dict[str, Any] = {"error": {"message": message, "type": type, "param": param, "code": code}}
        self.headers = headers

    def response(self) -> JSONResponse:
        """Return the HTTP response."""
        return JSONResponse(self.body, self.status, self.headers)


def not_found(what: str, id: str, *, param: str = "id") -> ApiError:
    """Return the error for what is not there, or belongs to another project; the two are told apart nowhere."""
    return ApiError(404, f"No such {what}: {id}", param=param)


def model_not_found(model: str) -> ApiError:
    """Return the error for a model that is not there, or belongs to another project."""
    message = f"The model `{model}` does not exist or you do not have access to it; GET /v1/models lists yours."
    return ApiError(404, message, param="model", code="model_not_found")


def body_too_large() -> ApiError:
    """Return the error for a body of more than `MOST_BODY_BYTES`."""
    return ApiError(413, f"The body is larger than {MOST_BODY_BYTES} bytes; send less", code="body_too_large")
