"""From a grammar as it was given to llguidance's own form, with errors that say where."""

import json
from typing import Any

from llguidance import LLMatcher, LLParserLimits, grammar_from, regex_to_lark

from tunesmith_serving.engines.text_generation.structured.grammar import OPTIONS, Grammar, GrammarError
from tunesmith_serving.engines.text_generation.structured.schema import checked, path_text, subschemas

MAX_GRAMMAR_BYTES = 256 << 10
# A converter in Python reads these.
MAX_GBNF_BYTES = 64 << 10
# What a schema within `schema.MAX_SUBSCHEMAS` needs: an object of so many optional properties has four items for each.
LIMITS = LLParserLimits(
    max_items_in_row=20_000,
    step_max_items=200_000,
    initial_lexer_fuel=1_000_000,
    max_grammar_size=200_000,
    max_lexer_states=100_000,
    verbose_errors=False,
)
MAX_TRIALS = 200
MAX_MESSAGE = 300
# Parts of llguidance's messages, and what helps.
REMEDIES = {
    "look-around": "write the pattern without look-ahead and look-behind",
    "lookarounds": "write the pattern without word boundaries",
    "backreferences": "write the repeated part again",
    "oneOf": "use anyOf",
    "minProperties": "name the properties that must be there in required",
    "min/maxProperties": "name the properties that must be there in required",
    "not disjoint": "write patterns of which at most one matches a name",
    "Unsatisfiable": "change it, so that an answer can be valid",
    "vocabulary": "a schema must not refer to itself alone, and the model must know the characters",
    "fuel": "the grammar is too complex; use fewer alternatives and smaller bounds",
    "too large": "use fewer alternatives, and anyOf instead of allOf",
    "too many expressions": "the grammar is too complex; use smaller bounds, and fewer intersections and complements",
    "Current row": "the grammar is too complex; use fewer alternatives and optional properties",
    "limit": "the grammar is too complex; use fewer alternatives and smaller bounds",
    "Unable to determine": "use either a pattern or a length",
    "to generate regex": "use bounds below 2**63, or leave them out",
    "Invalid type": "use string, number, integer, boolean, null, object or array",
    "does not exist": "correct $ref, or add what it refers to",
}


def read(grammar: Grammar) -> str:
    """Return a grammar in llguidance's form; it may still have errors, which compiling it shows.

    Raises:
        GrammarError: It is too large, or a JSON schema that cannot be enforced.
    """
    most = MAX_GBNF_BYTES if grammar.syntax == "gbnf" else MAX_GRAMMAR_BYTES
    if len(grammar.text) > most:
        raise GrammarError(f"has {len(grammar.text)} characters; at most {most} are allowed")
    if grammar.syntax == "regex":
        return LLMatcher.grammar_from_lark(f"start: /{regex_to_lark(grammar.text, 'd')}/")
    if grammar.syntax == "lark":
        return LLMatcher.grammar_from_lark(grammar.text)
    if grammar.syntax == "gbnf":
        try:
            return grammar_from("grammar", grammar.text)
        except Exception as error:
            raise GrammarError(f"{explain(str(error))}; write it in Lark's syntax or in GBNF") from None
    try:
        return _schema_grammar(checked(json.loads(grammar.text), grammar.lenient), grammar.lenient)
    except RecursionError:
        raise GrammarError("the schema is nested too deeply; use $ref and $defs") from None


def error_of(grammar: Grammar, message: str) -> GrammarError:
    """Return the error for a grammar that llguidance does not compile, for a JSON schema with the place in it."""
    path = _locate(json.loads(grammar.text), grammar.lenient, message) if grammar.syntax == "json_schema" else ()
    return GrammarError(advise(message), path_text(path))


def advise(message: str) -> str:
    """Return what one of llguidance's messages says is wrong, and what helps if that is known."""
    found = explain(message)
    remedy = next((remedy for part, remedy in REMEDIES.items() if part in found), "")
    return f"{found}; {remedy}" if remedy else found


def explain(message: str) -> str:
    """Return the line of one of llguidance's messages that says what is wrong."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    line = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), "".join(lines[:1]))
    if line.startswith("NoExtension"):
        return "no token of the model's vocabulary can come next"
    return f"{line[:MAX_MESSAGE]}..." if len(line) > MAX_MESSAGE else line


def _schema_grammar(schema: Any, lenient: bool) -> str:  # noqa: ANN401
    whole = schema if isinstance(schema, dict) else {"allOf": [schema]}
    return LLMatcher.grammar_from_json_schema(json.dumps({**whole, "x-guidance": {**OPTIONS, "lenient": lenient}}))


def _locate(schema: Any, lenient: bool, message: str) -> tuple[str | int, ...]:  # noqa: ANN401
    """Return the path of the innermost schema, or keyword in it, that causes an error."""
    if not isinstance(schema, dict):
        return ()
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    wanted = explain(message)
    trials = iter(range(MAX_TRIALS))

    def causes(part: dict[str, Any]) -> bool:
        if next(trials, None) is None:
            return False
        text = _schema_grammar(checked({**shared, **part}, lenient=True), lenient)
        failed, messages = LLMatcher.validate_grammar_with_warnings(text, limits=LIMITS)
        # A part may fail for another reason by itself, as what it refers to is elsewhere in the whole.
        return failed and explain(messages[0]) == wanted

    path: tuple[str | int, ...] = ()
    inner: tuple[tuple[str | int, ...], Any] | None = (path, schema)
    while inner is not None:
        path, schema = inner
        parts = subschemas(schema, path)
        inner = next(((place, part) for place, part in parts if isinstance(part, dict) and causes(part)), None)
    keywords = [keyword for keyword in schema if keyword not in shared]
    if len(keywords) > 1 and causes(schema):
        alone = [key for key in keywords if not causes({name: schema[name] for name in keywords if name != key})]
        return (*path, alone[0]) if alone else path
    return (*path, *keywords)
