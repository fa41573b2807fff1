"""The form of an error's body, which each protocol has its own of.

OpenAI: `{"error": {"message", "type", "param", "code"}}`. Hugging Face's task API and KServe's Open Inference Protocol:
`{"error": "message"}`. text-embeddings-inference: `{"error": "message", "error_type": "Validation"}`.
"""

from collections.abc import Callable
from typing import Any

Form = Callable[[int, dict[str, Any]], dict[str, Any]]
"""Makes the body of a status and of the body in OpenAI's form."""

_TYPES = {429: "Overloaded", 500: "Backend", 503: "Unhealthy"}


def form_for(path: str) -> Form:
    """Return the form of errors of requests for a path."""
    first = path.removeprefix("/").partition("/")[0]
    if path == "/" or first in ("models", "v2"):
        return _message
    if path in ("/predict", "/info"):
        return _typed
    return _openai


def _openai(status: int, body: dict[str, Any]) -> dict[str, Any]:
    return body


def _message(status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {"error": body["error"]["message"]}


def _typed(status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {"error": body["error"]["message"], "error_type": _TYPES.get(status, "Validation")}
