"""Mistral: `[TOOL_CALLS][{"name": ..., "arguments": {...}}]`; newer models `[TOOL_CALLS]NAME[ARGS]{...}` for each."""

from __future__ import annotations

import re

from tunesmith_serving.engines.text_generation.openai.tools.formats.base import (
    JSON_HEAD,
    Call,
    Found,
    Incomplete,
    Token,
    calls_of,
    find_marker,
    json_call_rule,
    read_json,
    undecided,
)
from tunesmith_serving.engines.text_generation.openai.tools.formats.json_arguments import JsonArguments

BEGIN, CALL_ID, ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"

_NAMED = re.compile(r"\s*([A-Za-z0-9_.:/-]+)(?:\[CALL_ID\][A-Za-z0-9]*)?(?:\[ARGS\])?\s*(?=\{)")
# What may still become the beginning of a call with a name.
_CUT = re.compile(r"\s*[A-Za-z0-9_.:/-]*(?:\[[A-Z_]*\]?[A-Za-z0-9]*){0,2}\s*")


class MistralFormat(JsonArguments):
    """See `CallFormat`."""

    markers: tuple[str, ...] = (BEGIN, CALL_ID, ARGS)
    opening: str | None = BEGIN
    separators = " \t\r\n"
    has_short_ids = True
    head = JSON_HEAD

    def begin(self, text: str, at_start: bool) -> int:
        """Return where calls may begin; see `CallFormat`."""
        return find_marker(text, (BEGIN,))

    def read(self, text: str, is_whole: bool) -> Found | None:
        """Return what the text is; see `CallFormat`."""
        if not text.startswith(BEGIN):
            return undecided(text, is_whole)
        body = text[len(BEGIN) :].lstrip()
        try:
            if body.startswith(("[{", "{")) or re.match(r"\[\s*\{", body):
                value, end = read_json(text, len(BEGIN))
                return Found(end, calls_of(value))
            named = _NAMED.match(text, len(BEGIN))
            if named is not None:
                value, end = read_json(text, named.end())
                return Found(end, (Call(named[1], value),))
        except Incomplete:
            return undecided(text, is_whole)
        except ValueError:
            return Found(len(BEGIN))
        if _CUT.fullmatch(text, len(BEGIN)):
            return undecided(text, is_whole)
        return Found(len(BEGIN))

    def call_rule(self, name: str, arguments: str, token: Token) -> str:
        """Return one call as a rule; see `CallFormat`."""
        return json_call_rule(name, arguments)

    def calls_rule(self, first: str, more: str | None, token: Token) -> str:
        """Return one or more calls as a rule; see `CallFormat`."""
        others = "" if more is None else f' (", " {more})*'
        return f'{token(BEGIN)} "[" {first}{others} "]"'


class NamedMistralFormat(MistralFormat):
    """The newer form of Mistral's calls, with the name before the arguments; see `CallFormat`."""

    head = re.compile(r"\[TOOL_CALLS\]([A-Za-z0-9_.:/-]+)\[ARGS\]")

    def call_rule(self, name: str, arguments: str, token: Token) -> str:
        """Return one call as a rule; see `CallFormat`."""
        return f'{token(BEGIN)} "{name}" {token(ARGS)} {arguments}'

    def calls_rule(self, first: str, more: str | None, token: Token) -> str:
        """Return one or more calls as a rule; see `CallFormat`."""
        return first if more is None else f"{first} {more}*"
