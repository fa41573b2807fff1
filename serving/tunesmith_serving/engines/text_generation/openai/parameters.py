"""Which of OpenAI's parameters a request may have."""

from typing import Any, TypeVar

from pydantic import BaseModel

from tunesmith_serving.http.body import validate
from tunesmith_serving.http.errors import ApiError

Model = TypeVar("Model", bound=BaseModel)

# Parameters of OpenAI's API that this server does not support, each with the values that have no effect.
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


def parse(kind: type[Model], data: dict[str, Any]) -> Model:
    """Check a body. An unsupported parameter is ignored if its value has no effect, and refused otherwise.

    Raises:
        ApiError: With the parameter in `param`.
    """
    known = {}
    for name, value in data.items():
        if name in kind.model_fields:
            known[name] = value
        elif name not in UNSUPPORTED:
            raise ApiError(400, f"unknown parameter {name}; leave it out", param=name, code="unknown_parameter")
        elif value is not None and not any(_same(value, neutral) for neutral in UNSUPPORTED[name]):
            raise ApiError(
                400,
                f"{name} is not supported by this server with this value; leave it out",
                param=name,
                code="unsupported_parameter",
            )
    return validate(kind, known)


def _same(value: object, neutral: object) -> bool:
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)
