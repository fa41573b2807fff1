"""Errors of the chat that a response stands for, with the names that the fields have in the request."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tunesmith_serving.http.errors import ApiError

_NAMES = (
    (re.compile(r"^response_format\.json_schema\b"), "text.format"),
    (re.compile(r"^response_format\b"), "text.format"),
    (re.compile(r"^max_completion_tokens\b"), "max_output_tokens"),
    (re.compile(r"^(tools\[\d+\])\.function\b"), r"\1"),
    (re.compile(r"^messages\b(?!\[)"), "input"),
)
_MESSAGE = re.compile(r"^messages\[(\d+)\](\.content)?")


@contextmanager
def named_as_given(turns: Sequence[str]) -> Iterator[None]:
    """Name the fields of an ApiError as the request does.

    Args:
        turns: For each message of the chat, the field that it comes from.
    """
    try:
        yield
    except ApiError as error:
        detail = error.body["error"]
        old = detail["param"]
        if not isinstance(old, str):
            raise
        new = _renamed(old, turns)
        message = detail["message"]
        if message.startswith(old):
            message = new + message.removeprefix(old)
        raise ApiError(
            error.status, message, type=detail["type"], param=new, code=detail["code"], headers=error.headers
        ) from None


def _renamed(param: str, turns: Sequence[str]) -> str:
    if (found := _MESSAGE.match(param)) and int(found[1]) < len(turns):
        path = turns[int(found[1])]
        return (path if path.isidentifier() else path + (found[2] or "")) + param[found.end() :]
    for pattern, name in _NAMES:
        param = pattern.sub(name, param)
    return param
