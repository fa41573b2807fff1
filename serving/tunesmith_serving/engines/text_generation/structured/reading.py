"""From a grammar as it was given to llguidance's own form, with errors that say where."""

import json
from typing import Any

from llguidance import LLMatcher, LLParserLimits, grammar_from

from tunesmith_serving.engines.text_generation.structured.grammar import OPTIONS, Grammar, GrammarError
from tunesmith_serving.engines.text_generation.structured.schema import checked, path_text, subschemas

MAX_GRAMMAR_BYTES = 256 << 10
# A converter in Python reads these.
MAX_GBNF_BYTES = 64 << 10
LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000, max_grammar_size=200_000, max_lexer_states=100_000, verbose_errors=False
)
MAX_TRIALS = 200
MAX_MESSAGE = 300


def read(grammar: Grammar) -> str:
    """Return a grammar in llguidance's form; it may still have errors, which compiling it shows.

    Raises:
        GrammarError: It is too large, or a JSON schema that cannot be enforced.
    """
    most = MAX_GBNF_BYTES if grammar.syntax == "gbnf" else MAX_GRAMMAR_BYTES
    if len(grammar.text) > most:
        raise GrammarError(f"has {len(grammar.text)} characters; at most {most} are allowed")
    if grammar.syntax == "regex":
        return LLMatcher.grammar_from_regex(grammar.text)
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
    path: tuple[str | int, ...] = ()
    if grammar.syntax == "json_schema":
        path, message = _locate(json.loads(grammar.text), grammar.lenient, message)
    return GrammarError(explain(message), path_text(path))


def explain(message: str) -> str:
    """Return the line of one of llguidance's messages that says what is wrong."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if not lines:
        return "cannot be used"
    for line in lines:
        if line.startswith("error: "):
            return line.removeprefix("error: ")
    line = lines[0]
    return f"{line[:MAX_MESSAGE]}..." if len(line) > MAX_MESSAGE else line


def _schema_grammar(schema: Any, lenient: bool) -> str:  # noqa: ANN401
    whole = schema if isinstance(schema, dict) else {"allOf": [schema]}
    return LLMatcher.grammar_from_json_schema(json.dumps({**whole, "x-guidance": {**OPTIONS, "lenient": lenient}}))


def _locate(schema: Any, lenient: bool, message: str) -> tuple[tuple[str | int, ...], str]:  # noqa: ANN401
    """Return the path of the innermost schema that has the same error by itself, and the error."""
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema} if isinstance(schema, dict) else {}
    path: tuple[str | int, ...] = ()
    trials = MAX_TRIALS
    found = True
    while found:
        found = False
        for place, part in subschemas(schema, path):
            if not isinstance(part, dict) or trials <= 0:
                continue
            trials -= 1
            text = _schema_grammar(checked({**shared, **part}, lenient), lenient)
            failed, messages = LLMatcher.validate_grammar_with_warnings(text, limits=LIMITS)
            # A part may fail for another reason by itself, as what it refers to is elsewhere in the whole.
            if failed and explain(messages[0]) == explain(message):
                schema, path, message, found = part, place, messages[0], True
                break
    return path, message
