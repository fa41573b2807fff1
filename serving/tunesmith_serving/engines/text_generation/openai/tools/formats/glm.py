"""GLM 4.5 to 4.7: `<tool_call>NAME`, an `<arg_key>` and an `<arg_value>` for each parameter, `</tool_call>`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tunesmith_serving.engines.text_generation.openai.tools.formats.base import Incomplete, Token
from tunesmith_serving.engines.text_generation.openai.tools.formats.tagged import BEGIN, END, Cursor, TaggedFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.tagged_rules import ANY_NAME
from tunesmith_serving.engines.text_generation.structured.grammar import literal

KEY, KEY_END = "<arg_key>", "</arg_key>"
VALUE, VALUE_END = "<arg_value>", "</arg_value>"

_NAME = re.compile(r"\s*([A-Za-z0-9_.:/-]+)")


class GlmFormat(TaggedFormat):
    """See `CallFormat`."""

    markers: tuple[str, ...] = (BEGIN, END, KEY, KEY_END, VALUE, VALUE_END)
    head = re.compile(r"<tool_call>([A-Za-z0-9_.:/-]+)(?=[\n<])")
    piece = re.compile(r"\s*(?:<arg_key>([^<]*)</arg_key>\s*<arg_value>|</tool_call>)")
    close = VALUE_END

    def __init__(self, tools: Iterable[Mapping[str, Any]] = (), is_compact: bool = False) -> None:
        """Take the functions of the request.

        Args:
            tools: The functions.
            is_compact: Whether the template writes no line breaks between the marks, as that of GLM 4.7.
        """
        super().__init__(tools)
        self._break = "" if is_compact else ' "\\n"'

    def read_call(self, cursor: Cursor) -> tuple[str, dict[str, str]]:
        """Return the name and the arguments' texts; see `TaggedFormat`."""
        named = _NAME.match(cursor.text, cursor.place)
        if named is None:
            if not cursor.text[cursor.place :].strip():
                raise Incomplete
            raise ValueError("no name")
        cursor.place = named.end()
        texts: dict[str, str] = {}
        while True:
            cursor.space()
            if cursor.text.startswith(END, cursor.place):
                return named[1], texts
            if END.startswith(cursor.text[cursor.place :]):
                raise Incomplete
            cursor.expect(KEY)
            key = cursor.until(KEY_END).strip()
            cursor.space()
            cursor.expect(VALUE)
            texts[key] = cursor.until(VALUE_END)

    def call_rule(self, name: str, arguments: str, token: Token) -> str:
        """Return one call as a rule; see `CallFormat`."""
        return f"{token(BEGIN)} {literal(name)}{self._break} {arguments} {token(END)}"

    def open_rule(self, name: str | None, token: Token) -> str:
        """Return what is before a value; see `TaggedFormat`."""
        key = ANY_NAME if name is None else literal(name)
        return f"{token(KEY)} {key} {token(KEY_END)}{self._break} {token(VALUE)}"

    def after_rule(self, token: Token) -> str:
        """Return what follows a value; see `TaggedFormat`."""
        return self._break

    def calls_rule(self, first: str, more: str | None, token: Token) -> str:
        """Return one or more calls as a rule; see `CallFormat`."""
        return first if more is None else f"{first} ({self._break} {more})*"
