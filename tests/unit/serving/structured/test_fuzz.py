"""Whatever is given as a schema, a regular expression or a grammar is compiled or refused, in a short time."""

import time
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from support.tokenizer_samples import STOP, definition
from tunesmith_serving.engines.text_generation.batching.constraint import ConstraintError
from tunesmith_serving.engines.text_generation.structured import grammar, schema
from tunesmith_serving.engines.text_generation.structured.compiler import GrammarCompiler
from tunesmith_serving.engines.text_generation.structured.grammar import Grammar, GrammarError
from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer

WORDS = (
    "string",
    "integer",
    "object",
    "array",
    "null",
    "a",
    "#",
    "#/$defs/a",
    "#/properties/a",
    "date",
    "^a+$",
    "(?=a)",
)
KEYWORDS = (
    *schema.ONE, *schema.MANY, *schema.NAMED, *schema.NOT_ENFORCED, "type", "enum", "const", "$ref", "required",
    "minimum", "maximum", "exclusiveMinimum", "multipleOf", "minLength", "maxLength", "pattern", "format", "minItems",
    "maxItems", "minProperties", "maxProperties", "x-guidance", "$id", "$schema", "$anchor", "title",
)  # fmt: skip
LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(WORDS) | st.text(max_size=5)
)  # fmt: skip
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYWORDS), inner, max_size=4)
        | st.dictionaries(st.sampled_from(("a", "b", "")), inner, max_size=2)
    ),
    max_leaves=20,
)
GRAMMARS = st.text(st.sampled_from(list('start: AB"x/[]()|*+?{},.\n\\d1<>%json=_')), max_size=60)


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    tokenizer = Tokenizer(definition("byte-level"))
    return GrammarCompiler(tokenizer, tokenizer.vocab_size, frozenset({tokenizer.token_id(STOP) or 0}))


def try_it(compiler: GrammarCompiler, wanted: Grammar) -> None:
    started = time.perf_counter()
    try:
        constraint = compiler.compile_now(wanted).start()
        for _ in range(5):
            logits = np.random.default_rng(0).normal(size=compiler.vocab_size).astype(np.float32)
            constraint.allow(logits)
            assert np.isfinite(logits).any()
            token = int(logits.argmax())
            if token in compiler.stop_token_ids or constraint.done:
                break
            constraint.accept(token)
    except GrammarError as error:
        assert "\n" not in str(error)
        assert str(error)
    except ConstraintError as error:
        assert str(error)
    assert time.perf_counter() - started < 60


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SCHEMAS, st.booleans())
def test_schemas(compiler: GrammarCompiler, value: Any, lenient: bool) -> None:
    wanted = value if isinstance(value, dict) else {"anyOf": [value]}
    try_it(compiler, grammar.json_schema(wanted, lenient))


@settings(max_examples=50, deadline=None)
@given(GRAMMARS, st.sampled_from(["regex", "lark", "gbnf"]))
def test_expressions_and_grammars(compiler: GrammarCompiler, text: str, syntax: Any) -> None:
    try_it(compiler, Grammar(syntax, text))
    try_it(compiler, Grammar(syntax, f"start: {text}" if syntax != "regex" else f"a{text}"))
