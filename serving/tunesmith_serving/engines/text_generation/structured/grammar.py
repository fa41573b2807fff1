"""What an answer must be: a JSON schema, a regular expression, a grammar or a list of choices, in llguidance's form."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llguidance import LLMatcher

# JSON without whitespace: models of random or small weights else write blank lines without end.
COMPACT = {"whitespace_flexible": False}
Schema = Mapping[str, Any]


class GrammarError(ValueError):
    """A grammar that cannot be used; the message says what to write instead.

    Attributes:
        path: The place in a JSON schema, as `properties.name.pattern`; empty for the whole.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


@dataclass(frozen=True, slots=True)
class Grammar:
    """A grammar before it is compiled; equal grammars are compiled once.

    Attributes:
        text: The grammar as llguidance reads it.
    """

    text: str


def json_schema(schema: Schema, lenient: bool = False) -> Grammar:
    """Return the grammar of the JSON texts that are valid by a schema, without whitespace.

    Args:
        schema: A JSON schema of draft 2020-12.
        lenient: Whether keywords and formats that cannot be enforced are ignored instead of refused.
    """
    return Grammar(LLMatcher.grammar_from_json_schema(json.dumps(_with_options(schema, lenient))))


def json_object() -> Grammar:
    """Return the grammar of all JSON objects."""
    return json_schema({"type": "object"})


def regex(pattern: str) -> Grammar:
    """Return the grammar of the texts that a regular expression matches as a whole."""
    return Grammar(LLMatcher.grammar_from_regex(pattern))


def choice(options: Sequence[str]) -> Grammar:
    """Return the grammar of a few texts."""
    return lark("start: " + " | ".join(map(literal, options)))


def lark(text: str) -> Grammar:
    """Return the grammar of a text in Lark's syntax as llguidance has it; its first rule is `start`."""
    return Grammar(LLMatcher.grammar_from_lark(text))


def literal(text: str) -> str:
    """Return a text as a string of a Lark grammar."""
    return json.dumps(text)


def json_rule(schema: Schema, lenient: bool = False) -> str:
    """Return the JSON texts of a schema as a part of a rule of a Lark grammar."""
    return f"%json {json.dumps(_with_options(schema, lenient))}"


def _with_options(schema: Schema, lenient: bool) -> dict[str, Any]:
    return {**schema, "x-guidance": {**COMPACT, "lenient": lenient}}
