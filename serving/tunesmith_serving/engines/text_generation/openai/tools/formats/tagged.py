"""What forms of calls have in common that mark each parameter, with its value as plain text between the marks.

A text is not quoted, so it ends at the first mark that may end it, and what a value is follows from the schema.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from tunesmith_serving.engines.text_generation.openai.tools.formats.base import (
    ArgumentsReader,
    Call,
    Found,
    Incomplete,
    Token,
    find_marker,
    is_cut,
    undecided,
)
from tunesmith_serving.engines.text_generation.openai.tools.formats.tagged_rules import parameter_rules
from tunesmith_serving.engines.text_generation.openai.tools.values import Parameters

BEGIN, END = "<tool_call>", "</tool_call>"


class Cursor:
    """A place in the text of a call."""

    def __init__(self, text: str, place: int) -> None:
        self.text = text
        self.place = place

    def space(self) -> None:
        """Go on to what is no white space."""
        while self.place < len(self.text) and self.text[self.place].isspace():
            self.place += 1

    def takes(self, marker: str) -> bool:
        """Return whether a marker is here, and go on to its end.

        Raises:
            Incomplete: It may be one if more follows.
        """
        if self.text.startswith(marker, self.place):
            self.place += len(marker)
            return True
        if marker.startswith(self.text[self.place :]):
            raise Incomplete
        return False

    def expect(self, marker: str) -> None:
        """Go on to the end of a marker.

        Raises:
            Incomplete: It may be there if more follows.
            ValueError: It is not here.
        """
        if not self.takes(marker):
            raise ValueError(marker)

    def until(self, marker: str) -> str:
        """Return the text before a marker, and go on to its end.

        Raises:
            Incomplete: It is not there yet.
        """
        end = self.text.find(marker, self.place)
        if end < 0:
            raise Incomplete
        found, self.place = self.text[self.place : end], end + len(marker)
        return found


class TaggedFormat(ABC):
    """See `CallFormat`; a subclass says what the marks are.

    Attributes:
        piece: What is before the next value, from the end of `head` or of a value on, with the parameter's name; or the
            end of the arguments, without one.
        close: The mark after a value.
        writes_booleans_as_python: Whether the template writes them so.
    """

    markers: tuple[str, ...] = (BEGIN, END)
    opening: str | None = BEGIN
    separators = " \t\r\n"
    has_short_ids = False
    head: re.Pattern[str]
    piece: re.Pattern[str]
    close: str
    writes_booleans_as_python = False

    def __init__(self, tools: Iterable[Mapping[str, Any]] = ()) -> None:
        """Take the functions of the request, by whose schemas values are read."""
        functions = [tool["function"] for tool in tools]
        self._parameters = {one["name"]: Parameters(one.get("parameters")) for one in functions}

    def parameters_of(self, name: str) -> Parameters:
        """Return the parameters of a function; those of an unknown one may be anything."""
        return self._parameters.get(name) or Parameters(None)

    @abstractmethod
    def read_call(self, cursor: Cursor) -> tuple[str, dict[str, str]]:
        """Return the name and the arguments' texts of the call after `BEGIN`, up to `END`.

        Raises:
            Incomplete: It may be one if more follows.
            ValueError: It is none.
        """

    @abstractmethod
    def open_rule(self, name: str | None, token: Token) -> str:
        """Return what is before the value of a parameter, as a part of a rule; for any name if it is None."""

    @abstractmethod
    def after_rule(self, token: Token) -> str:
        """Return what follows `close`, as a part of a rule."""

    def begin(self, text: str, at_start: bool) -> int:
        """Return where a call may begin; see `CallFormat`."""
        return find_marker(text, (BEGIN,))

    def read(self, text: str, is_whole: bool) -> Found | None:
        """Return what the text is; see `CallFormat`. A call may end with the answer instead of its marker."""
        if not text.startswith(BEGIN):
            return undecided(text, is_whole)
        cursor = Cursor(text, len(BEGIN))
        try:
            name, texts = self.read_call(cursor)
        except Incomplete:
            return undecided(text, is_whole)
        except ValueError:
            return Found(len(BEGIN))
        parameters = self.parameters_of(name)
        call = Call(name, {key: parameters.value(key, value) for key, value in texts.items()})
        rest = text[cursor.place :].lstrip()
        if rest.startswith(END):
            return Found(len(text) - len(rest) + len(END), (call,))
        if is_cut(rest, END):
            return Found(len(text), (call,)) if is_whole else None
        return Found(len(BEGIN))

    def calls_rule(self, first: str, more: str | None, token: Token) -> str:
        """Return one or more calls as a rule; see `CallFormat`."""
        return first if more is None else f'{first} ("\\n" {more})*'

    def arguments_rules(self, rule: str, function: Mapping[str, Any], path: str, token: Token) -> list[str]:
        """Return the rules of a function's arguments; see `CallFormat`."""
        return parameter_rules(self, rule, function, path, token)

    def arguments_reader(self, name: str) -> ArgumentsReader:
        """Return what reads the arguments of a call; see `CallFormat`."""
        return TaggedReader(self, self.parameters_of(name))


class TaggedReader:
    """Reads arguments that come as marked texts; see `ArgumentsReader`.

    Texts are passed on as they come, other values when they are complete.
    """

    def __init__(self, form: TaggedFormat, parameters: Parameters) -> None:
        self._form = form
        self._parameters = parameters
        self._held = ""
        self._name: str | None = None
        self._count = 0

    def push(self, text: str) -> tuple[str, str | None]:
        """Return what is new of the arguments' JSON text, and the text after them once they have ended."""
        self._held += text
        new = ""
        while True:
            if self._name is None:
                found = self._form.piece.match(self._held)
                if found is None:
                    return new, None
                self._held = self._held[found.end() :]
                if found[1] is None:
                    return new + ("}" if self._count else "{}"), self._held
                self._name = found[1]
                new += f"{', ' if self._count else '{'}{_json(self._name)}: "
                new += '"' if self._is_text() else ""
                self._count += 1
            else:
                end = self._held.find(self._form.close)
                if self._is_text():
                    known = find_marker(self._held, (self._form.close,))
                    new += _json(self._held[:known])[1:-1] + ('"' if end >= 0 else "")
                elif end >= 0:
                    known = end
                    new += _json(self._parameters.value(self._name, self._held[:end]))
                else:
                    return new, None
                self._held = self._held[known:]
                if end < 0:
                    return new, None
                self._held, self._name = self._held[len(self._form.close) :], None

    def _is_text(self) -> bool:
        return self._name is not None and self._parameters.is_text(self._parameters.properties.get(self._name))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
