"""What an answer with `tool_choice` must be: calls in the model's form, with arguments by the functions' schemas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tunesmith_serving.engines.text_generation.openai.tools.formats.base import CallFormat
from tunesmith_serving.engines.text_generation.structured.grammar import Grammar, GrammarError, dump, lark
from tunesmith_serving.engines.text_generation.structured.schema import checked

# As chat templates write JSON, so that the model reads and writes the same tokens.
_OPTIONS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class ToolSchemaError(ValueError):
    """The parameters of a function cannot be enforced.

    Attributes:
        path: Where in the request: `tools[0].function.parameters.properties.a`.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


def calls_grammar(
    format: CallFormat,
    tools: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    limit: int | None,
    token: Callable[[str], str],
) -> Grammar:
    """Return the grammar of one or more calls and nothing else.

    Args:
        format: The form in which the model writes calls.
        tools: All functions of the request.
        names: Those that may be called.
        limit: The most calls; None for any number.
        token: Returns a text for a rule: as one token if it is a special one, else as a string.

    Raises:
        ToolSchemaError: The parameters of a function with `strict: true` cannot be enforced.
    """
    rules = []
    for index, tool in enumerate(tools):
        function = tool["function"]
        if function["name"] in names:
            rules.append((format.call_rule(function["name"], f"arguments_{index}", token), index, function))
    lines = [f"start: {format.calls_rule('call', limit == 1, token)}"]
    lines.append("call: " + " | ".join(f"call_{index}" for _, index, _ in rules))
    for rule, index, function in rules:
        lines.append(f"call_{index}: {rule}")
        lines.append(f"arguments_{index}: {arguments_rule(function, f'tools[{index}].function.parameters')}")
    return lark("\n".join(lines))


def arguments_rule(function: Mapping[str, Any], path: str) -> str:
    """Return the arguments of a function as a part of a rule.

    Raises:
        ToolSchemaError: The function has `strict: true`, and its parameters cannot be enforced.
    """
    lenient = not function.get("strict")
    schema = function.get("parameters") or {"type": "object", "properties": {}, "additionalProperties": False}
    try:
        known = checked({"type": "object", **schema}, lenient)
        return f"%json {dump({**known, 'x-guidance': {**_OPTIONS, 'lenient': lenient}})}"
    except GrammarError as error:
        separator = "" if not error.path or error.path.startswith("[") else "."
        remedy = "; or leave out strict, and it is ignored" if not lenient and error.can_be_ignored else ""
        raise ToolSchemaError(f"{path}{separator}{error.path}", f"{error}{remedy}") from None
