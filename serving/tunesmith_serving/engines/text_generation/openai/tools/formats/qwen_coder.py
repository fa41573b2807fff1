"""Qwen3-Coder, Qwen 3.5, Nemotron 3: a `<function=NAME>` with a `<parameter=NAME>` for each, within `<tool_call>`."""

from __future__ import annotations

import re

from tunesmith_serving.engines.text_generation.openai.tools.formats.base import Token
from tunesmith_serving.engines.text_generation.openai.tools.formats.tagged import BEGIN, END, Cursor, TaggedFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.tagged_rules import ANY_NAME
from tunesmith_serving.engines.text_generation.structured.grammar import literal

FUNCTION, FUNCTION_END = "<function=", "</function>"
PARAMETER, PARAMETER_END = "<parameter=", "</parameter>"


class QwenCoderFormat(TaggedFormat):
    """See `CallFormat`."""

    head = re.compile(r"<function=([^>\n]+)>")
    piece = re.compile(r"\s*(?:<parameter=([^>\n]+)>\n|</function>)")
    close = "\n</parameter>"
    writes_booleans_as_python = True

    def read_call(self, cursor: Cursor) -> tuple[str, dict[str, str]]:
        """Return the name and the arguments' texts; see `TaggedFormat`. A line break around a value is not its own."""
        cursor.space()
        cursor.expect(FUNCTION)
        name = cursor.until(">")
        texts: dict[str, str] = {}
        while True:
            cursor.space()
            if cursor.takes(FUNCTION_END):
                return name, texts
            cursor.expect(PARAMETER)
            key = cursor.until(">")
            texts[key] = cursor.until(PARAMETER_END).removeprefix("\n").removesuffix("\n")

    def call_rule(self, name: str, arguments: str, token: Token) -> str:
        """Return one call as a rule; see `CallFormat`."""
        begin, end = literal(f"\n{FUNCTION}{name}>\n"), literal(f"{FUNCTION_END}\n")
        return f"{token(BEGIN)} {begin} {arguments} {end} {token(END)}"

    def open_rule(self, name: str | None, token: Token) -> str:
        """Return what is before a value; see `TaggedFormat`."""
        if name is None:
            return " ".join((literal(PARAMETER), ANY_NAME, literal(">\n")))
        return literal(f"{PARAMETER}{name}>\n")

    def after_rule(self, token: Token) -> str:
        """Return what follows a value; see `TaggedFormat`."""
        return literal("\n")
