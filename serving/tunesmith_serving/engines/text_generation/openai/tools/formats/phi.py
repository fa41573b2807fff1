"""Phi-4-mini, Granite: `<|tool_call|>[{"name": ..., "arguments": {...}}]<|/tool_call|>`, or `functools[...]`."""

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

BEGIN, END = "<|tool_call|>", "<|/tool_call|>"
FUNCTOOLS = "functools["


class PhiFormat(JsonArguments):
    """See `CallFormat`."""

    markers: tuple[str, ...] = (BEGIN, END)
    opening: str | None = BEGIN
    separators = " \t\r\n"
    has_short_ids = False
    head = JSON_HEAD

    def begin(self, text: str, at_start: bool) -> int:
        """Return where calls may begin; see `CallFormat`."""
        return find_marker(text, (BEGIN, FUNCTOOLS))

    def read(self, text: str, is_whole: bool) -> Found | None:
        """Return what the text is; see `CallFormat`. Only some models write the marker at the end."""
        marker = next((marker for marker in (BEGIN, FUNCTOOLS) if text.startswith(marker)), None)
        if marker is None:
            return undecided(text, is_whole)
        start = len(marker) if marker == BEGIN else len(marker) - 1
        try:
            value, end = read_json(text, start)
        except Incomplete:
            return undecided(text, is_whole)
        except ValueError:
            return Found(start)
        rest = text[end:].lstrip()
        if marker == BEGIN and rest.startswith(END):
            end = len(text) - len(rest) + len(END)
        elif marker == BEGIN and is_cut(rest, END) and not is_whole:
            return None
        return Found(end, calls_of(value))

    def call_rule(self, name: str, arguments: str, token: Token) -> str:
        """Return one call as a rule; see `CallFormat`."""
        return json_call_rule(name, arguments)

    def calls_rule(self, first: str, more: str | None, token: Token) -> str:
        """Return one or more calls as a rule; see `CallFormat`."""
        others = "" if more is None else f' (", " {more})*'
        return f'{token(BEGIN)} "[" {first}{others} "]" {token(END)}'
