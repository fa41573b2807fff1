"""DeepSeek V3, R1 and V3.1: calls between marks of their own, with the arguments as JSON.

V3 and R1 write a type before the name, and put the JSON into a block of code; V3.1 writes the name and the JSON alone.
"""

from __future__ import annotations

import re

from tunesmith_serving.engines.text_generation.openai.tools.formats.base import (
    Call,
    Found,
    Incomplete,
    Token,
    find_marker,
    is_cut,
    read_json,
    undecided,
)
from tunesmith_serving.engines.text_generation.openai.tools.formats.json_arguments import JsonArguments
from tunesmith_serving.engines.text_generation.structured.grammar import literal

CALLS_BEGIN, CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
BEGIN, SEPARATOR, END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"

_NAME = "[A-Za-z0-9_.:/-]+"
_HEAD = re.compile(rf"\s*{BEGIN}\s*(?:function{SEPARATOR}\s*({_NAME})\s*```json|({_NAME})\s*{SEPARATOR})\s*(?=\{{)")
_FENCE = re.compile(r"\s*```")
_LONGEST_HEAD = 300


class DeepSeekFormat(JsonArguments):
    """See `CallFormat`."""

    markers: tuple[str, ...] = (CALLS_BEGIN, CALLS_END, BEGIN, SEPARATOR, END)
    opening: str | None = CALLS_BEGIN
    separators = " \t\r\n"
    has_short_ids = False
    head = re.compile(rf"{BEGIN}function{SEPARATOR}({_NAME})\n```json\n")

    def begin(self, text: str, at_start: bool) -> int:
        """Return where calls may begin; see `CallFormat`."""
        return find_marker(text, (CALLS_BEGIN, BEGIN))

    def read(self, text: str, is_whole: bool) -> Found | None:
        """Return what the text is; see `CallFormat`. Calls may end with the answer instead of their markers."""
        start = len(CALLS_BEGIN) if text.startswith(CALLS_BEGIN) else 0
        if not start and not text.startswith(BEGIN):
            return undecided(text, is_whole)
        named = _HEAD.match(text, start)
        if named is None:
            # What a head may be cut to has no other text in it than marks, a name and the beginning of a block.
            body = text[start:].lstrip()
            is_head = is_cut(body, BEGIN) or (body.startswith(BEGIN) and len(body) < _LONGEST_HEAD and "{" not in body)
            return undecided(text, is_whole) if is_head else Found(start or len(BEGIN))
        try:
            value, end = read_json(text, named.end())
        except Incomplete:
            return undecided(text, is_whole)
        except ValueError:
            return Found(start or len(BEGIN))
        if not isinstance(value, dict):
            return Found(start or len(BEGIN))
        return self._to_end(text, end, Call(named[1] or named[2], value), is_whole)

    def _to_end(self, text: str, end: int, call: Call, is_whole: bool) -> Found | None:
        """Return the call with the markers after it."""
        if fence := _FENCE.match(text, end):
            end = fence.end()
        elif is_cut(text[end:], "```") and not is_whole:
            return None
        for marker in (END, CALLS_END):
            rest = text[end:].lstrip()
            if rest.startswith(marker):
                end = len(text) - len(rest) + len(marker)
            elif is_cut(rest, marker):
                return Found(len(text), (call,)) if is_whole else None
        return Found(end, (call,))

    def call_rule(self, name: str, arguments: str, token: Token) -> str:
        """Return one call as a rule; see `CallFormat`."""
        before, after = literal(f"{name}\n```json\n"), literal("\n```")
        return f'{token(BEGIN)} "function" {token(SEPARATOR)} {before} {arguments} {after} {token(END)}'

    def calls_rule(self, first: str, more: str | None, token: Token) -> str:
        """Return one or more calls as a rule; see `CallFormat`."""
        others = "" if more is None else f' ("\\n" {more})*'
        return f"{token(CALLS_BEGIN)} {first}{others} {token(CALLS_END)}"


class PlainDeepSeekFormat(DeepSeekFormat):
    """The form of V3.1; see `CallFormat`."""

    head = re.compile(rf"{BEGIN}({_NAME}){SEPARATOR}")

    def call_rule(self, name: str, arguments: str, token: Token) -> str:
        """Return one call as a rule; see `CallFormat`."""
        return f"{token(BEGIN)} {literal(name)} {token(SEPARATOR)} {arguments} {token(END)}"

    def calls_rule(self, first: str, more: str | None, token: Token) -> str:
        """Return one or more calls as a rule; see `CallFormat`."""
        return f"{token(CALLS_BEGIN)} {first}{'' if more is None else f' {more}*'} {token(CALLS_END)}"
