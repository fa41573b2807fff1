"""What an answer with `tool_choice` must be: calls in the model's form, with arguments by the functions' schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith_serving.engines.text_generation.openai.tools.formats.base import CallFormat, Token
from tunesmith_serving.engines.text_generation.structured.grammar import Grammar, lark

ANY_TEXT = "text"
"""Any text is an answer without calls."""


def tools_grammar(
    format: CallFormat,
    tools: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    limit: int | None,
    token: Token,
    otherwise: str | None = None,
) -> Grammar:
    """Return the grammar of an answer that has one or more calls.

    Args:
        format: The form in which the model writes calls.
        tools: All functions of the request.
        names: Those that may be called.
        limit: The most calls; None for any number.
        token: Returns a text for a rule: as one token if it is a special one, else as a string.
        otherwise: The rule of an answer without calls; `ANY_TEXT` for text that may also be before calls. None if
            there have to be calls.

    Raises:
        ToolSchemaError: The parameters of a function with `strict: true` cannot be enforced.
    """
    lines: list[str] = []
    mark, opening = token, format.opening
    if otherwise == ANY_TEXT and opening is not None:
        lines.append("TEXT: /(.|\\n)*/")
        if token(opening).startswith("<["):  # no text has this token
            start = "TEXT | TEXT {calls}"
        else:  # text ends where the marker is complete

            def mark(text: str) -> str:
                return "opening" if text == opening else token(text)

            lines.append(f"opening[lazy]: TEXT {token(opening)}")
            start = "TEXT | {calls}"
    elif otherwise == ANY_TEXT:  # the answer is a call from its beginning, or none
        lines.append("TEXT: /([^{](.|\\n)*)?/")
        start = "TEXT | {calls}"
    else:
        start = "{calls}" if otherwise is None else "{calls} | answer"
        lines += [] if otherwise is None else [f"answer: {otherwise}"]
    callable_ = [(index, tool["function"]) for index, tool in enumerate(tools) if tool["function"]["name"] in names]
    for rule, marks in (("first", mark), ("more", token)):
        if rule == "first" or limit != 1:
            calls = (format.call_rule(function["name"], f"arguments_{index}", marks) for index, function in callable_)
            lines.append(f"{rule}: {' | '.join(calls)}")
    for index, function in callable_:
        lines += format.arguments_rules(f"arguments_{index}", function, f"tools[{index}].function.parameters", token)
    whole = format.calls_rule("first", None if limit == 1 else "more", mark)
    return lark("\n".join([f"start: {start.format(calls=whole)}", *lines]))
