"""Rules of a grammar for arguments that come as marked texts, by the schema of a function's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tunesmith_serving.engines.text_generation.openai.tools.arguments import ToolSchemaError, schema_error, schema_rule
from tunesmith_serving.engines.text_generation.openai.tools.formats.base import Token
from tunesmith_serving.engines.text_generation.openai.tools.values import Parameters, as_text
from tunesmith_serving.engines.text_generation.structured.grammar import GrammarError, literal
from tunesmith_serving.engines.text_generation.structured.schema import checked

ANY_NAME = "/[^<>\\n]+/"

# Of a text that is not quoted, and of all parameters together, these cannot be enforced.
_TEXT_KEYWORDS = ("pattern", "format", "minLength", "maxLength")
_WHOLE_KEYWORDS = (
    "allOf", "anyOf", "oneOf", "const", "enum", "patternProperties", "minProperties", "maxProperties", "$ref",
)  # fmt: skip


class Marks(Protocol):
    """What is around the values; see `TaggedFormat`."""

    close: str
    writes_booleans_as_python: bool

    def open_rule(self, name: str | None, token: Token) -> str:
        """Return what is before the value of a parameter."""

    def after_rule(self, token: Token) -> str:
        """Return what follows `close`."""


def parameter_rules(marks: Marks, rule: str, function: Mapping[str, Any], path: str, token: Token) -> list[str]:
    """Return the rules of a function's arguments: its parameters in the order of the schema; see `CallFormat`.

    Raises:
        ToolSchemaError: The function has `strict: true`, and its parameters cannot be enforced.
    """
    lenient = not function.get("strict")
    try:
        schema = checked(function.get("parameters") or {"properties": {}, "additionalProperties": False}, lenient)
    except GrammarError as error:
        raise schema_error(error, path, lenient) from None
    parameters = Parameters(schema)
    if not lenient:
        _refuse(schema, _WHOLE_KEYWORDS, path)
    text = f"{rule}_text"
    lines = [f"{rule}_ANY: /(.|\\n)*/".replace(rule, rule.upper()), _text_rule(text, rule.upper(), marks, token)]
    required = schema.get("required") if isinstance(schema.get("required"), list) else []
    parts = []
    for index, (name, part) in enumerate(parameters.properties.items()):
        value = _value(marks, parameters, part, f"{path}.properties.{name}", lenient, text, token)
        lines.append(f"{rule}_{index}: {marks.open_rule(name, token)} {value} {marks.after_rule(token)}")
        parts.append(f"{rule}_{index}" if name in required else f"{rule}_{index}?")
    if not parts and schema.get("additionalProperties", True) is not False:
        lines.append(f"{rule}_other: {marks.open_rule(None, token)} {text} {marks.after_rule(token)}")
        parts.append(f"{rule}_other*")
    return [f"{rule}: {' '.join(parts) or literal('')}", *lines]


def _text_rule(rule: str, prefix: str, marks: Marks, token: Token) -> str:
    """Return the rule of any text with the mark after it: the text ends where the mark is complete."""
    mark = token(marks.close)
    # No text has a special token.
    return f"{rule}: {prefix}_ANY {mark}" if mark.startswith("<[") else f"{rule}[lazy]: {prefix}_ANY {mark}"


def _value(
    marks: Marks, parameters: Parameters, schema: object, path: str, lenient: bool, text: str, token: Token
) -> str:
    """Return a value with the mark after it, as a part of a rule."""
    close = token(marks.close)
    choices = parameters.choices(schema)
    if choices is not None:
        return f"({' | '.join(literal(as_text(choice)) for choice in choices)}) {close}"
    types = parameters.types(schema)
    if types is None or "string" in types:
        if not lenient:
            _refuse(parameters.resolved(schema), _TEXT_KEYWORDS, path)
        return text
    if types == {"boolean"} and marks.writes_booleans_as_python:
        return f'("true" | "false" | "True" | "False") {close}'
    shared = {key: parameters.schema[key] for key in ("$defs", "definitions") if key in parameters.schema}
    part = dict(schema) if isinstance(schema, dict) else {}
    return f"{schema_rule({**shared, **part}, lenient)} {close}"


def _refuse(schema: Mapping[str, Any], keywords: tuple[str, ...], path: str) -> None:
    for keyword in keywords:
        if keyword in schema:
            raise ToolSchemaError(
                f"{path}.{keyword}",
                "cannot be enforced for this model, which writes each parameter as plain text; list the values in the "
                "parameter's enum, or leave out strict, and it is ignored",
            )
