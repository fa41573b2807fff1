"""What an answer must be: a JSON schema, a regular expression, a grammar or a list of choices."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Schema = Mapping[str, Any]
Syntax = Literal["json_schema", "regex", "lark", "gbnf"]
# JSON without whitespace: models of random or small weights else write blank lines without end.
OPTIONS = {"whitespace_flexible": False}


class GrammarError(ValueError):
    """A grammar that cannot be used; the message says what to write instead.

    Attributes:
        path: The place in a JSON schema, such as `properties.name.pattern`; empty for the whole.
        can_be_ignored: Whether a lenient schema may have it.
    """

    def __init__(self, message: str, path: str = "", can_be_ignored: bool = False) -> None:
        super().__init__(message)
        self.path = path
        self.can_be_ignored = can_be_ignored


@dataclass(frozen=True, slots=True)
class Grammar:
    """A grammar before it is compiled; equal ones are compiled once.

    Attributes:
        syntax: How `text` is to be read: as a JSON schema, as a regular expression, in Lark's syntax as llguidance has
            it, or in that or llama.cpp's GBNF, whichever it is.
        text: The grammar.
        lenient: Whether what cannot be enforced of a JSON schema is ignored instead of refused.
    """

    syntax: Syntax
    text: str
    lenient: bool = False


def json_schema(schema: Schema, lenient: bool = False) -> Grammar:
    """Return the grammar of the JSON texts that are valid by a schema of draft 2020-12, without whitespace.

    Args:
        schema: The schema.
        lenient: Whether keywords and formats that cannot be enforced are ignored instead of refused.

    Raises:
        GrammarError: It is nested too deeply.
    """
    return Grammar("json_schema", dump(schema), lenient)


def json_object() -> Grammar:
    """Return the grammar of all JSON objects."""
    return json_schema({"type": "object"})


def regex(pattern: str) -> Grammar:
    """Return the grammar of the texts that a regular expression matches as a whole."""
    return Grammar("regex", pattern)


def choice(options: Sequence[str]) -> Grammar:
    """Return the grammar of a few texts."""
    return lark("start: " + " | ".join(map(literal, options)))


def lark(text: str) -> Grammar:
    """Return the grammar of a text in Lark's syntax as llguidance has it; the answer follows its rule `start`."""
    return Grammar("lark", text)


def literal(text: str) -> str:
    """Return a text as a string of a Lark grammar."""
    return json.dumps(text, ensure_ascii=False)


def json_rule(schema: Schema, lenient: bool = False) -> str:
    """Return the JSON texts of a schema as a part of a rule of a Lark grammar.

    Raises:
        GrammarError: It is nested too deeply.
    """
    return f"%json {dump({**schema, 'x-guidance': {**OPTIONS, 'lenient': lenient}})}"


def parse_schema(text: str) -> dict[str, Any]:
    """Return the schema that a JSON text holds.

    Raises:
        GrammarError: It is not the JSON text of an object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise GrammarError("must be a JSON schema: an object, or its JSON text")
    return value


def dump(schema: Schema) -> str:
    """Return a schema as JSON text.

    Raises:
        GrammarError: It is nested too deeply.
    """
    try:
        return json.dumps(schema)
    except RecursionError:
        raise GrammarError("the schema is nested too deeply; use $ref and $defs") from None
