"""Llama 3: an answer that is `{"name": ..., "parameters": {...}}`, or several; `<|python_tag|>` may come before it."""

from __future__ import annotations

import re

from tunesmith_serving.engines.text_generation.openai.tools.formats.base import (
    JSON_HEAD,
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

TAG = "<|python_tag|>"

# The beginning of a call, as far as it is there. Other JSON is an answer, which need not be held back.
_BEGINNING = re.compile(r'\{\s*(?:"(?:name|type|id|function|parameters|arguments)"|"[a-z]{0,10}$|$)')


class LlamaFormat(JsonArguments):
    """See `CallFormat`."""

    markers: tuple[str, ...] = (TAG,)
    opening: str | None = None
    separators = " \t\r\n;"
    has_short_ids = False
    head = JSON_HEAD

    def begin(self, text: str, at_start: bool) -> int:
        """Return where a call may begin; see `CallFormat`. Without its marker that is the answer's beginning only."""
        first = len(text) - len(text.lstrip(self.separators))
        if at_start and text.startswith("{", first):
            return first
        return find_marker(text, (TAG,))

    def read(self, text: str, is_whole: bool) -> Found | None:
        """Return what the text is; see `CallFormat`."""
        start = len(TAG) if text.startswith(TAG) else 0
        body = text[start:].lstrip()
        if (not start and TAG.startswith(text)) or not body:
            return undecided(text, is_whole)
        if not _BEGINNING.match(body):
            return Found(start or 1)
        try:
            value, end = read_json(text, start)
        except Incomplete:
            return undecided(text, is_whole)
        except ValueError:
            return Found(start or 1)
        return Found(end, calls_of(value))

    def call_rule(self, name: str, arguments: str, token: Token) -> str:
        """Return one call as a rule; see `CallFormat`."""
        return json_call_rule(name, arguments, "parameters")

    def calls_rule(self, first: str, more: str | None, token: Token) -> str:
        """Return one or more calls as a rule; see `CallFormat`."""
        return first if more is None else f'{first} ("; " {more})*'
