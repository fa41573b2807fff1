"""What forms of calls have in common whose arguments are a JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith_serving.engines.text_generation.openai.tools.arguments import arguments_rule
from tunesmith_serving.engines.text_generation.openai.tools.formats.base import ArgumentsReader, Token


class ObjectReader:
    """Reads arguments that are a JSON object; see `ArgumentsReader`."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def push(self, text: str) -> tuple[str, str | None]:
        """Return the part of the text that belongs to the object, and the rest once it has ended."""
        end = self._end(text)
        return (text, None) if end is None else (text[:end], text[end:])

    def _end(self, piece: str) -> int | None:
        for place, character in enumerate(piece):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = character == "\\"
                self._in_string = character != '"'
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if not self._depth:
                    return place + 1
        return None


class JsonArguments:
    """The arguments' part of `CallFormat`."""

    def arguments_rules(self, rule: str, function: Mapping[str, Any], path: str, token: Token) -> list[str]:
        """Return the rules of a function's arguments; see `CallFormat`."""
        return [f"{rule}: {arguments_rule(function, path)}"]

    def arguments_reader(self, name: str) -> ArgumentsReader:
        """Return what reads the arguments of a call; see `CallFormat`."""
        return ObjectReader()
