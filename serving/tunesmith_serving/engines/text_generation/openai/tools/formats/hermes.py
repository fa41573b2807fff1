"""Hermes, Qwen 2.5 and 3 and others: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, once for each call."""

from __future__ import annotations

from tunesmith_serving.engines.text_generation.openai.tools.formats.base import (
    JSON_HEAD,
    Found,
    Incomplete,
    Token,
    calls_of,
    find_marker,
    is_cut,
    json_call_rule,
    read_json,
    undecided,
)
from tunesmith_serving.engines.text_generation.openai.tools.formats.json_arguments import JsonArguments

BEGIN, END = "<tool_call>", "</tool_call>"


class HermesFormat(JsonArguments):
    """See `CallFormat`."""

    markers: tuple[str, ...] = (BEGIN, END)
    opening: str | None = BEGIN
    separators = " \t\r\n"
    has_short_ids = False
    head = JSON_HEAD

    def begin(self, text: str, at_start: bool) -> int:
        """Return where a call may begin; see `CallFormat`."""
        return find_marker(text, (BEGIN,))

    def read(self, text: str, is_whole: bool) -> Found | None:
        """Return what the text is; see `CallFormat`. A call may end with the answer instead of its marker."""
        if not text.startswith(BEGIN):
            return undecided(text, is_whole)
        try:
            value, end = read_json(text, len(BEGIN))
        except Incomplete:
            return undecided(text, is_whole)
        except ValueError:
            return Found(len(BEGIN))
        rest = text[end:].lstrip()
        if rest.startswith(END):
            return Found(len(text) - len(rest) + len(END), calls_of(value))
        if is_cut(text[end:], END):
            return Found(len(text), calls_of(value)) if is_whole else None
        return Found(len(BEGIN))

    def call_rule(self, name: str, arguments: str, token: Token) -> str:
        """Return one call as a rule; see `CallFormat`."""
        return f'{token(BEGIN)} "\\n" {json_call_rule(name, arguments)} "\\n" {token(END)}'

    def calls_rule(self, first: str, more: str | None, token: Token) -> str:
        """Return one or more calls as a rule; see `CallFormat`."""
        return first if more is None else f'{first} ("\\n" {more})*'
