"""The arguments of a function as a part of a grammar, by the schema of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith_serving.engines.text_generation.structured.grammar import GrammarError, dump
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


def arguments_rule(function: Mapping[str, Any], path: str) -> str:
    """Return the arguments of a function as a part of a rule.

    Raises:
        ToolSchemaError: The function has `strict: true`, and its parameters cannot be enforced.
    """
    lenient = not function.get("strict")
    schema = function.get("parameters") or {"type": "object", "properties": {}, "additionalProperties": False}
    try:
        return schema_rule({"type": "object", **schema}, lenient)
    except GrammarError as error:
        raise schema_error(error, path, lenient) from None


def schema_error(error: GrammarError, path: str, lenient: bool) -> ToolSchemaError:
    """Return the error for a function's parameters at a path in the request, with what to write instead."""
    separator = "" if not error.path or error.path.startswith("[") else "."
    remedy = "; or leave out strict, and it is ignored" if not lenient and error.can_be_ignored else ""
    return ToolSchemaError(f"{path}{separator}{error.path}", f"{error}{remedy}")


def schema_rule(schema: Mapping[str, Any], lenient: bool) -> str:
    """Return the JSON texts of a schema as a part of a rule, written as chat templates write JSON.

    Raises:
        GrammarError: A part of it cannot be enforced.
    """
    return f"%json {dump({**checked(schema, lenient), 'x-guidance': {**_OPTIONS, 'lenient': lenient}})}"
