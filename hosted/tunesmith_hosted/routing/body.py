"""The body of a request: what routing reads of it, and the few bytes that it changes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from tunesmith_hosted.http.errors import MOST_BODY_BYTES, ApiError, body_too_large
from tunesmith_hosted.http.strict_json import DECODER
from tunesmith_hosted.routing.client import ClientGoneError
from tunesmith_hosted.tenants.rates.admission import admission_of

_MOST_NAME = 255
_SPACE = re.compile(r"[ \t\r\n]*")
_MODEL = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]|\\.)*")')


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
        fields: Its object, where that is known already.

    Attributes:
        model: The model's name.
        stream: Whether the answer is streamed.
        wants_usage: Whether a stream shall end with the usage.

    Raises:
        ApiError: It is not a JSON object that names a model.
    """

    def __init__(self, raw: bytes, fields: dict[str, Any] | None = None) -> None:
        self._raw = raw
        if fields is None:
            fields = {name: member.value for name, member in _members(raw).items()}
        if "model" not in fields:
            message = "Give model: the name of a model; GET /v1/models lists yours"
            raise ApiError(400, message, param="model", code="missing_required_parameter")
        model = fields["model"]
        if not isinstance(model, str) or not 0 < len(model) <= _MOST_NAME or not model.isprintable():
            raise ApiError(404, "model must be the name of a model", param="model", code="model_not_found")
        self.model = model
        self.stream = fields.get("stream") is True
        self._has_options = "stream_options" in fields
        options = fields.get("stream_options")
        self.wants_usage = isinstance(options, dict) and options.get("include_usage") is True

    def sent(self, served: str, *, with_usage: bool) -> bytes:
        """Return the body for a server, with its own name of the model; nothing else is written anew.

        Args:
            served: The name of the model that the server knows.
            with_usage: Whether a stream shall end with the usage.
        """
        adds_usage = with_usage and self.stream and not self.wants_usage
        if not (adds_usage and self._has_options) and (place := _only_place(self._raw)) is not None:
            start, end = place
            first = self._raw.index(b"{") + 1 if adds_usage else 0
            options = b'"stream_options":{"include_usage":true},' if adds_usage else b""
            name = json.dumps(served).encode()
            return b"".join((self._raw[:first], options, self._raw[first:start], name, self._raw[end:]))
        members = _members(self._raw)
        changes = [(members["model"].start, members["model"].end, json.dumps(served))]
        text = self._raw.decode()
        if adds_usage:
            old = members.get("stream_options")
            if old is None:
                at = text.index("{") + 1
                changes.append((at, at, '"stream_options":{"include_usage":true},'))
            elif old.value is None or isinstance(old.value, dict):  # what is wrong the server refuses
                changes.append((old.start, old.end, json.dumps({**(old.value or {}), "include_usage": True})))
        for start, end, new in sorted(changes, reverse=True):
            text = text[:start] + new + text[end:]
        return text.encode()


async def read(request: Request) -> tuple[bytes, dict[str, Any] | None]:
    """Return the body of a request, and its object where that is known already.

    Raises:
        ApiError: It is too large.
        ClientGoneError: The client has gone.
    """
    if (admission := admission_of(request)) is not None:
        return admission.body, admission.fields
    raw = bytearray()
    try:
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > MOST_BODY_BYTES:
                raise body_too_large()
    except ClientDisconnect:
        raise ClientGoneError from None
    return bytes(raw), None


def _only_place(raw: bytes) -> tuple[int, int] | None:
    """Return where the name of the model is in an object that has one, without reading the object again.

    The name of a member is there as it is, unless it is written with escapes. Where it is there once, it is that of the
    object, and neither a part of a text nor a member of something inside.
    """
    if raw.count(b'"model"') != 1 or b"\\u" in raw or (found := _MODEL.search(raw)) is None:
        return None
    return found.span(1)


def _members(raw: bytes) -> dict[str, Member]:
    try:
        return _read_members(raw.decode())
    except RecursionError:
        raise ApiError(400, "The body is nested too deeply", code="invalid_json") from None
    except ValueError as error:
        raise ApiError(400, f"The body is not a JSON object: {error}", code="invalid_json") from None


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
            key, at = DECODER.raw_decode(text, at)
            at = _skip(text, at)
            if not isinstance(key, str) or text[at : at + 1] != ":":
                raise ValueError(f"a name and a colon are wanted at character {at}")
            start = _skip(text, at + 1)
            value, end = DECODER.raw_decode(text, start)
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
