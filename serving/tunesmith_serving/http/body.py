"""From bytes to a checked request, or to an error that names the field."""

import json
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from tunesmith_serving.http.errors import ApiError

Model = TypeVar("Model", bound=BaseModel)

# Fields of OpenAI's API that are not answered here, each with the values that ask for nothing.
UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "metadata": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "n": (1,),
    "parallel_tool_calls": (),
    "prediction": (),
    "presence_penalty": (0,),
    "prompt_cache_key": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": (),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "safety_identifier": (),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none",),
    "tools": ([],),
    "user": (),
    "verbosity": (),
    "web_search_options": (),
}


async def read_json(request: Request, limit: int) -> dict[str, Any]:
    """The body as a JSON object of at most `limit` bytes.

    Raises:
        ApiError: It is larger, not JSON, or not an object.
    """
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > limit:
            raise ApiError(413, f"the body is larger than {limit} bytes; send less", code="body_too_large")
    try:
        value = json.loads(bytes(raw), parse_constant=_refuse_constant)
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply", code="invalid_json") from None
    except ValueError as error:
        raise ApiError(400, f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise ApiError(400, "the body must be a JSON object", code="invalid_json")
    return value


def parse(kind: type[Model], data: dict[str, Any]) -> Model:
    """Check a body; what is not supported is refused by name, whatever has no effect is left out.

    Raises:
        ApiError: With the field in `param`.
    """
    known = {}
    for name, value in data.items():
        if name in kind.model_fields:
            known[name] = value
        elif name in UNSUPPORTED:
            if value is not None and not any(_same(value, neutral) for neutral in UNSUPPORTED[name]):
                raise ApiError(
                    400,
                    f"{name} is not supported by this server with this value; leave it out",
                    param=name,
                    code="unsupported_parameter",
                )
        else:
            raise ApiError(400, f"unknown parameter {name}; leave it out", param=name, code="unknown_parameter")
    try:
        return kind.model_validate(known)
    except ValidationError as error:
        first = error.errors()[0]
        param = _path(first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ApiError(
            400,
            f"{param}: {message}" if param else message,
            param=param or None,
            code="missing_required_parameter" if first["type"] == "missing" else "invalid_value",
        ) from None


def _same(value: object, neutral: object) -> bool:
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


def _path(location: tuple[int | str, ...]) -> str:
    """`("messages", 0, "role")` as `messages[0].role`."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
