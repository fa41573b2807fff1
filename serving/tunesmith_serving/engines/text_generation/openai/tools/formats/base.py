"""What the forms of calls have in common: finding where a call may begin, and reading the JSON in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from tunesmith_api.chat.definitions import parse_json


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the model wrote it."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """What text that may be a call is.

    Attributes:
        length: Number of its characters, from where it may begin.
        calls: The calls in it; none if it is no call, but text.
    """

    length: int
    calls: tuple[Call, ...] = ()


Token = Callable[[str], str]


class ArgumentsReader(Protocol):
    """Reads the arguments of one call whose form is certain, as they come."""

    def push(self, text: str) -> tuple[str, str | None]:
        """Return what is new of the arguments' JSON text, and the text after them; None for that if they go on."""


class CallFormat(Protocol):
    """A form of calls.

    Attributes:
        markers: The texts that mark calls. Where they are special tokens, the answer's text has to show them.
        opening: The marker at the beginning of each call, or of all of them; None if an answer is a call by itself.
        separators: Characters between calls, and after the last one, that are not text of the answer.
        has_short_ids: Whether the chat template takes ids of nine letters and digits only.
        head: What is before the arguments of a call that `call_rule` allows; its first group is the function.
    """

    markers: tuple[str, ...]
    opening: str | None
    separators: str
    has_short_ids: bool
    head: re.Pattern[str]

    def begin(self, text: str, at_start: bool) -> int:
        """Return where in a text a call may begin; its length if nowhere.

        Args:
            text: The part of the answer that is not read yet. It may end within a marker.
            at_start: Whether nothing but white space and calls is before it.
        """

    def read(self, text: str, is_whole: bool) -> Found | None:
        """Return what a text is that may begin with a call; None if that is decided by what follows.

        Args:
            text: The text, as far as it is generated.
            is_whole: Whether nothing follows.
        """

    def call_rule(self, name: str, arguments: str, token: Token) -> str:
        """Return one call as a rule of a Lark grammar.

        Args:
            name: The function.
            arguments: The rule of its arguments.
            token: Returns a text for a rule: as one token if it is a special one, else as a string.
        """

    def arguments_rules(self, rule: str, function: Mapping[str, Any], path: str, token: Token) -> list[str]:
        """Return the rules of a function's arguments, for a Lark grammar.

        Args:
            rule: The name of the first of them; names of others begin with it.
            function: The function.
            path: Where its parameters are in the request.
            token: As for `call_rule`.

        Raises:
            ToolSchemaError: It has `strict: true`, and its parameters cannot be enforced.
        """

    def arguments_reader(self, name: str) -> ArgumentsReader:
        """Return what reads the arguments of a call of a function, from the end of its `head` on."""

    def calls_rule(self, first: str, more: str | None, token: Token) -> str:
        """Return one or more calls as a rule of a Lark grammar.

        Args:
            first: The rule of the first call.
            more: The rule of each other call; None if there is one only.
            token: As for `call_rule`.
        """


class Incomplete(Exception):  # noqa: N818 - not an error
    """A JSON text may be valid once more of it is there."""


def find_marker(text: str, markers: Sequence[str]) -> int:
    """Return where the first marker begins in a text, or the beginning of one at its end; its length if nowhere."""
    found = [place for place in map(text.find, markers) if place >= 0]
    return min(found) if found else len(text) - max(_overlap(text, marker) for marker in markers)


def undecided(text: str, is_whole: bool) -> Found | None:
    """Return what a text is that only more of it would make a call: nothing yet, or text if nothing follows."""
    return Found(len(text)) if is_whole else None


def is_cut(text: str, marker: str) -> bool:
    """Return whether a text ends within a marker that it begins with, white space before it aside."""
    rest = text.lstrip()
    return len(rest) < len(marker) and marker.startswith(rest)


# Characters before the end of a text in which a mistake may only be a value that is cut, such as `tru` or `\u12`.
_LOOKAHEAD = 16


def read_json(text: str, start: int) -> tuple[Any, int]:
    """Return the JSON value at a place in a text, white space before it aside, and where it ends.

    Line breaks within texts, which models write, are taken as they are.

    Raises:
        Incomplete: It may be one if more follows.
        ValueError: It is none.
    """
    while start < len(text) and text[start].isspace():
        start += 1
    if start == len(text):
        raise Incomplete
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        if error.msg.startswith("Unterminated string") or error.pos + _LOOKAHEAD >= len(text):
            raise Incomplete from None
        raise
    except RecursionError:
        raise ValueError("nested too deeply") from None


JSON_HEAD = re.compile(r'\{"name": "([^"]+)", "(?:arguments|parameters)": ')
"""The `head` of calls that `json_call_rule` allows."""


def json_call_rule(name: str, arguments: str, key: str = "arguments") -> str:
    """Return `{"name": ..., "arguments": ...}` as a rule of a Lark grammar."""
    before = f'{{"name": "{name}", "{key}": '
    return f'{json.dumps(before)} {arguments} "}}"'


def calls_of(value: object) -> tuple[Call, ...]:
    """Return the calls of a JSON value, which is one or a list of them; none if any of them is not a call."""
    calls = []
    for entry in value if isinstance(value, list) else [value]:
        call = _call(entry)
        if call is None:
            return ()
        calls.append(call)
    return tuple(calls)


def _call(entry: Any) -> Call | None:  # noqa: ANN401 - any JSON value
    if not isinstance(entry, dict):
        return None
    inner = entry.get("function")
    if isinstance(inner, dict):
        entry = inner
    name = entry.get("name", entry.get("function"))
    arguments = entry.get("arguments", entry.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = parse_json(arguments)
        except ValueError:
            return None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return Call(name, arguments)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, strict=False)


def _overlap(text: str, marker: str) -> int:
    """Return the length of the longest end of a text that is a proper beginning of a marker."""
    for length in range(min(len(marker) - 1, len(text)), 0, -1):
        if text.endswith(marker[:length]):
            return length
    return 0
