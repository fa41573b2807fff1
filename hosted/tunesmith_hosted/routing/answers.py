"""Answers of servers: the model gets its public name, and the usage is read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from tunesmith_hosted.http.errors import ApiError

Api = Literal["chat/completions", "completions", "responses"]

_END = b"\n\n"


@dataclass(frozen=True)
class Tokens:
    """Tokens of an answered request; the cached ones are among those of the input."""

    input: int = 0
    cached: int = 0
    output: int = 0


def tokens_of(usage: object) -> Tokens | None:
    """Return the tokens of `usage`, which chats, completions and responses write differently; None if there is none."""
    if not isinstance(usage, dict):
        return None
    given, made = ("input", "output") if "input_tokens" in usage else ("prompt", "completion")
    details = usage.get(f"{given}_tokens_details") or {}
    return Tokens(usage[f"{given}_tokens"], details.get("cached_tokens", 0), usage.get(f"{made}_tokens", 0))


def whole(body: bytes, public: str) -> tuple[bytes, Tokens | None]:
    """Return an answer with the model's public name, and its tokens."""
    answer = json.loads(body)
    if not isinstance(answer, dict):
        return body, None
    if "model" in answer:
        answer["model"] = public
    return _dump(answer), tokens_of(answer.get("usage"))


class Events:
    """Passes on the events of a stream, each as soon as it is complete.

    Args:
        api: The API that was asked.
        served: The server's name of the model.
        public: Its public name.
        show_usage: Whether the client asked for the usage at the end.

    Attributes:
        tokens: The tokens, once the server has said them.
    """

    def __init__(self, api: Api, served: str, public: str, *, show_usage: bool) -> None:
        self.tokens: Tokens | None = None
        self._api = api
        self._show_usage = show_usage
        # Quotes inside JSON's strings are escaped, so these bytes are never part of a text.
        self._old, self._new = (b'"model":' + _dump(name) for name in (served, public))
        self._public = public
        self._rest = b""
        self._events = 0

    def feed(self, data: bytes) -> bytes:
        """Return what is sent on, for the next bytes that have come."""
        data = self._rest + data
        end = data.rfind(_END) + len(_END)
        if end < len(_END):
            self._rest = data
            return b""
        self._rest = data[end:]
        if b'"usage":{' not in data and (self._api != "responses" or self._old not in data):  # as most are
            self._events += data.count(_END, 0, end)
            return data[:end].replace(self._old, self._new)
        return b"".join(self._event(event) for event in data[: end - len(_END)].split(_END))

    def failure(self, error: ApiError) -> bytes:
        """Return the event that tells an error, as OpenAI sends it."""
        if self._api != "responses":
            return b"data: " + _dump(error.body) + _END
        inside = error.body["error"]
        event = {
            "type": "error",
            "code": inside["code"],
            "message": inside["message"],
            "param": None,
            "sequence_number": self._events,
        }
        return b"event: error\ndata: " + _dump(event) + _END

    def _event(self, event: bytes) -> bytes:
        self._events += 1
        if b'"usage":{' in event or (self._api == "responses" and self._old in event):
            head, mark, data = event.rpartition(b"data: ")
            body = json.loads(data)
            answer = body.get("response", body) if self._api == "responses" else body
            self.tokens = tokens_of(answer.get("usage")) or self.tokens
            if self._api != "responses" and not self._show_usage and not body.get("choices"):
                return b""
            if "model" in answer:
                answer["model"] = self._public
            return head + mark + _dump(body) + _END
        return event.replace(self._old, self._new, 1) + _END


_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _dump(value: Any) -> bytes:  # noqa: ANN401
    return _ENCODE(value).encode()
