"""The body of a request: what routing reads of it, and the few bytes that it changes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from tunesmith_hosted.http.errors import MOST_BODY_BYTES, ApiError, body_too_large

_MOST_NAME = 255
_SPACE = re.compile(r"[ \t\r\n]*")


class ClientGoneError(Exception):
    """The client has closed its connection, so nobody reads an answer."""


@dataclass(frozen=True)
class Member:
    """A member of the body: its value, and where that is in the text."""

    value: Any
    start: int
    end: int


class Asked:
    """A request's body.

    Args:
        raw: The body.

    Attributes:
        model: The model's name.
        stream: Whether the answer is streamed.
        wants_usage: Whether a stream shall end with the usage.

    Raises:
        ApiError: It is not a JSON object that names a model.
    """

    def __init__(self, raw: bytes) -> None:
        try:
            self._text = raw.decode()
            self._members = _read_members(self._text)
        except RecursionError:
            raise ApiError(400, "The body is nested too deeply", code="invalid_json") from None
        except ValueError as error:
            raise ApiError(400, f"The body is not a JSON object: {error}", code="invalid_json") from None
        if "model" not in self._members:
            message = "Give model: the name of a model; GET /v1/models lists yours"
            raise ApiError(400, message, param="model", code="missing_required_parameter")
        model = self._members["model"].value
        if not isinstance(model, str) or not 0 < len(model) <= _MOST_NAME or not model.isprintable():
            raise ApiError(404, "model must be the name of a model", param="model", code="model_not_found")
        self.model = model
        self.stream = self._value("stream") is True
        self._options = self._value("stream_options")
        self.wants_usage = isinstance(self._options, dict) and self._options.get("include_usage") is True

    def sent(self, served: str, *, with_usage: bool) -> bytes:
        """Return the body for a server, with its own name of the model; nothing else is written anew.

        Args:
            served: The name of the model that the server knows.
            with_usage: Whether a stream shall end with the usage.
        """
        changes = [(self._members["model"].start, self._members["model"].end, json.dumps(served))]
        if with_usage and self.stream and not self.wants_usage:
            old = self._members.get("stream_options")
            if old is None:
                at = self._text.index("{") + 1
                changes.append((at, at, '"stream_options":{"include_usage":true},'))
            elif old.value is None or isinstance(old.value, dict):  # what is wrong the server refuses
                changes.append((old.start, old.end, json.dumps({**(old.value or {}), "include_usage": True})))
        text = self._text
        for start, end, new in sorted(changes, reverse=True):
            text = text[:start] + new + text[end:]
        return text.encode()

    def _value(self, name: str) -> Any:  # noqa: ANN401
        member = self._members.get(name)
        return None if member is None else member.value


async def read(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        ApiError: It is too large.
        ClientGoneError: The client has gone.
    """
    raw = bytearray()
    try:
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > MOST_BODY_BYTES:
                raise body_too_large()
    except ClientDisconnect:
        raise ClientGoneError from None
    return bytes(raw)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _read_members(text: str) -> dict[str, Member]:
    """Return the members of the object that a text is; of one that is there twice, the last, as parsers have it."""
    members: dict[str, Member] = {}
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        raise ValueError("it must begin with {")
    at = _skip(text, at + 1)
    if text[at : at + 1] == "}":
        at += 1
    else:
        while True:
            key, at = _DECODER.raw_decode(text, at)
            at = _skip(text, at)
            if not isinstance(key, str) or text[at : at + 1] != ":":
                raise ValueError(f"a name and a colon are wanted at character {at}")
            start = _skip(text, at + 1)
            value, end = _DECODER.raw_decode(text, start)
            members[key] = Member(value, start, end)
            at = _skip(text, end)
            mark = text[at : at + 1]
            if mark not in (",", "}"):
                raise ValueError(f"a comma or the end of the object is wanted at character {at}")
            at = _skip(text, at + 1)
            if mark == "}":
                break
    if _skip(text, at) != len(text):
        raise ValueError(f"there is something after its end, at character {at}")
    return members


def _skip(text: str, at: int) -> int:
    if text[at : at + 1] > " ":  # most bodies have no spaces
        return at
    match = _SPACE.match(text, at)
    return at if match is None else match.end()
