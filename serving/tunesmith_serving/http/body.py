"""Reading a request's body and checking it; errors name the field."""

import json
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from tunesmith_serving.http.errors import ApiError

Model = TypeVar("Model", bound=BaseModel)

MOST_FIELDS = 10_000
"""The most fields of an object in a body."""
CLIENT_LEFT = 499
"""Status of a response that nobody reads, because the client has closed its connection."""


async def read_bytes(request: Request, limit: int) -> bytes:
    """Return the body, of at most `limit` bytes.

    Raises:
        ApiError: It is larger, or the client has left.
    """
    raw = bytearray()
    try:
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > limit:
                raise ApiError(413, f"the body is larger than {limit} bytes; send less", code="body_too_large")
    except ClientDisconnect:  # nobody reads the answer
        raise ApiError(CLIENT_LEFT, "the connection was closed before the whole body had come") from None
    return bytes(raw)


def parse_json(raw: bytes) -> dict[str, Any]:
    """Return the JSON object that a body holds.

    Raises:
        ApiError: It is not JSON, or not an object.
    """
    try:
        value = json.loads(raw, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply", code="invalid_json") from None
    except ValueError as error:
        raise ApiError(400, f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise ApiError(400, "the body must be a JSON object", code="invalid_json")
    return value


def validate(kind: type[Model], data: dict[str, Any]) -> Model:
    """Return a body as a model.

    Raises:
        ApiError: A field is missing or invalid; `param` names it.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        param = field_path(first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "this server does not know this field; leave it out"
        raise ApiError(
            400,
            f"{param}: {message}" if param else message,
            param=param or None,
            code="missing_required_parameter" if first["type"] == "missing" else "invalid_value",
        ) from None


def field_path(location: tuple[int | str, ...]) -> str:
    """Return the path of a field in JSON: `("messages", 0, "role")` is `messages[0].role`."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, unless it has so many fields that an error for each of them would take much memory."""
    if len(pairs) > MOST_FIELDS:
        raise ValueError(f"an object has more than {MOST_FIELDS:,} fields")
    return dict(pairs)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
