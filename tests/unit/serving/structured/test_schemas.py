"""Answers by chance that follow JSON schemas are valid; schemas that cannot be enforced are refused with a remedy."""

import json
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from support.json_schemas import SUITE, WRITTEN, closed, follow, make_schemas
from support.tokenizer_samples import STOP, definition
from tunesmith_serving.engines.text_generation.structured import grammar
from tunesmith_serving.engines.text_generation.structured.compiler import GrammarCompiler
from tunesmith_serving.engines.text_generation.structured.grammar import GrammarError
from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer

FORMATS = FormatChecker()


@FORMATS.checks("date-time", ValueError)
@FORMATS.checks("time", ValueError)
def is_time(value: Any) -> bool:
    if not isinstance(value, str):
        return True
    text = value.upper().replace(":60", ":59")  # a leap second
    return bool(datetime.fromisoformat(text if "T" in text else f"2000-01-01T{text}"))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(definition("byte-level"))


@pytest.fixture(scope="module")
def compiler(tokenizer: Tokenizer) -> GrammarCompiler:
    return GrammarCompiler(tokenizer, tokenizer.vocab_size, frozenset({tokenizer.token_id(STOP) or 0}))


@pytest.mark.parametrize("keyword", [*WRITTEN, "composed"])
def test_answers_are_valid(keyword: str, compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    rng = np.random.default_rng(7)
    stop = tokenizer.token_id(STOP) or 0
    schemas = WRITTEN[keyword] if keyword in WRITTEN else list(make_schemas(len(SUITE) + 40, seed=3))[len(SUITE) :]
    for schema in schemas:
        Draft202012Validator.check_schema(schema)
        validator = Draft202012Validator(schema, format_checker=FORMATS)
        source = compiler.compile_now(grammar.json_schema(schema))
        for _ in range(2):
            text, complete = follow(source.start(), tokenizer, rng, tokenizer.vocab_size, stop)
            assert complete, (schema, text)
            validator.validate(json.loads(text))
            # Nothing that a model may write without end: neither blanks between the parts nor around them.
            assert text == text.strip()
            if '"' not in text:
                assert " " not in text and "\n" not in text


def test_lenient_schemas_leave_out_what_cannot_be_enforced(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    schema = closed({
        "a": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "maxItems": 3},
        "b": {"type": "string", "format": "color", "not": {"const": "x"}, "maxLength": 4},
    })  # fmt: skip
    with pytest.raises(GrammarError) as caught:
        compiler.compile_now(grammar.json_schema(schema))
    assert caught.value.path == "properties.a.uniqueItems"
    assert caught.value.can_be_ignored
    source = compiler.compile_now(grammar.json_schema(schema, lenient=True))
    stop = tokenizer.token_id(STOP) or 0
    text, complete = follow(source.start(), tokenizer, np.random.default_rng(0), tokenizer.vocab_size, stop)
    assert complete
    del schema["properties"]["a"]["uniqueItems"], schema["properties"]["b"]["not"]
    Draft202012Validator(schema).validate(json.loads(text))


NESTED: dict[str, Any] = {"type": "integer"}
for _ in range(250):
    NESTED = {"type": "array", "items": NESTED}
REFUSED = [
    ({"not": {"type": "null"}}, "not", "say what is allowed"),
    ({"type": "array", "uniqueItems": True}, "uniqueItems", "boolean property"),
    ({"if": {"const": 1}, "then": {}}, "if", "anyOf"),
    ({"type": "array", "contains": {"const": 1}}, "contains", "prefixItems"),
    ({"type": "object", "propertyNames": {"pattern": "^a"}}, "propertyNames", "patternProperties"),
    ({"type": "object", "dependentRequired": {"a": ["b"]}}, "dependentRequired", "anyOf"),
    ({"type": "object", "minProperties": 2}, "minProperties", "required"),
    ({"type": "string", "format": "color"}, "format", "use pattern"),
    ({"type": "string", "pattern": "(?=a)b"}, "pattern", "without look-ahead"),
    ({"type": "string", "pattern": "(a)\\1"}, "pattern", "again"),
    ({"type": "text"}, "type", "string, number"),
    ({"minimum": "3"}, "minimum", "minimum"),
    ({"$ref": "#/$defs/none"}, "$ref", "correct $ref"),
    ({"$ref": "https://example.com/a.json"}, "$ref", "$defs"),
    ({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}, "oneOf", "use anyOf"),
    ({"anyOf": []}, "anyOf", "not empty"),
    ({"items": [{"type": "null"}]}, "items", "prefixItems"),
    ({"properties": 5}, "properties", "object of schemas"),
    (5, "", "must be a schema"),
]


@pytest.mark.parametrize(("part", "keyword", "remedy"), REFUSED)
def test_refusals_say_where_and_what_to_write(part: Any, keyword: str, remedy: str, compiler: GrammarCompiler) -> None:
    schema = closed({"ok": {"type": "boolean"}, "a": {"anyOf": [{"type": "null"}, part]}})
    with pytest.raises(GrammarError) as caught:
        compiler.compile_now(grammar.json_schema(schema))
    assert caught.value.path == "properties.a.anyOf[1]" + (f".{keyword}" if keyword else "")
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    "schema",
    [
        NESTED,
        {"$ref": "#"},
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"enum": ["x" * 300_000]},
        {"type": "object", "properties": {f"p{index}": {"type": "null"} for index in range(6_000)}},
        {"allOf": [{"anyOf": [{"required": [f"a{i}"]}, {"required": [f"b{i}"]}]} for i in range(30)]},
    ],
    ids=["deep", "of itself", "no number", "long", "wide", "exponential"],
)
def test_schemas_that_are_too_much_are_refused(schema: Any, compiler: GrammarCompiler) -> None:
    with pytest.raises(GrammarError):
        compiler.compile_now(grammar.json_schema(schema))


def test_values_that_say_nothing_are_no_errors(compiler: GrammarCompiler) -> None:
    assert compiler.compile_now(grammar.json_schema({"type": "array", "uniqueItems": False}))
