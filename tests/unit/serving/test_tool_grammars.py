"""Grammars of answers that call tools: whatever a model prefers, the answer is calls that are read back and valid."""

import json
from typing import Any

import numpy as np
import pytest

from support.tiny_models import train_tokenizer
from support.tool_templates import SPECIAL
from tunesmith_serving.engines.text_generation.openai.tools.answers import Content, ToolAnswer
from tunesmith_serving.engines.text_generation.openai.tools.constraint import ANY_TEXT, ToolSchemaError, tools_grammar
from tunesmith_serving.engines.text_generation.openai.tools.formats.base import CallFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.mistral import NamedMistralFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.registry import FORMATS
from tunesmith_serving.engines.text_generation.structured.compiler import GrammarCompiler
from tunesmith_serving.engines.text_generation.text.stream import show_tokens
from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer

CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Berlin", "Köln"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "weather", "strict": True, "parameters": CITY}},
    {"type": "function", "function": {"name": "now"}},
    {"type": "function", "function": {"name": "never", "parameters": CITY}},
]
NAMES = ("weather", "now")
FORMS = [*FORMATS.values(), NamedMistralFormat()]
IDS = [type(form).__name__ for form in FORMS]
NUMBER = '%json {"enum": [5, 6]}'


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made = train_tokenizer()
    made.add_special_tokens({"additional_special_tokens": SPECIAL})
    return Tokenizer(made.backend_tokenizer.to_str())


@pytest.fixture(scope="module")
def compiler(tokenizer: Tokenizer) -> GrammarCompiler:
    return GrammarCompiler(tokenizer, tokenizer.vocab_size, frozenset({end(tokenizer)}))


def end(tokenizer: Tokenizer) -> int:
    token = tokenizer.token_id("<|im_end|>")
    assert token is not None
    return token


def generate(grammar: Any, compiler: GrammarCompiler, tokenizer: Tokenizer, seed: int, begin: str = "") -> str:
    """An answer of random tokens after `begin`, which has to be allowed."""
    rng, constraint = np.random.default_rng(seed), compiler.compile_now(grammar).start()
    ids = tokenizer.encode(begin, add_special_tokens=False)
    for token in ids:
        logits = np.zeros(tokenizer.vocab_size, np.float32)
        constraint.allow(logits)
        assert np.isfinite(logits[token]), tokenizer.token(token)
        constraint.accept(token)
    while not constraint.done and len(ids) < 500:
        logits = rng.normal(size=tokenizer.vocab_size).astype(np.float32)
        constraint.allow(logits)
        if (token := int(logits.argmax())) == end(tokenizer):
            break
        constraint.accept(token)
        ids.append(token)
    shown = [(index, text) for text in SPECIAL if (index := tokenizer.token_id(text)) is not None]
    return show_tokens(tokenizer, shown).decode(ids)


def read(form: CallFormat, text: str) -> Content:
    parser, content = ToolAnswer(form, NAMES, None, ()), Content()
    content.add([*parser.push(text), *parser.finish()])
    return content


def check(calls: list[dict[str, str]]) -> None:
    for call in calls:
        arguments = json.loads(call["arguments"])
        if call["name"] == "now":
            assert arguments == {}
        else:
            assert arguments["city"] in ("Berlin", "Köln") and arguments["days"] in range(1, 10)


@pytest.mark.parametrize("limit", [1, None])
@pytest.mark.parametrize("form", FORMS, ids=IDS)
def test_calls_only(form: CallFormat, limit: int | None, compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    grammar = tools_grammar(form, TOOLS, NAMES, limit, compiler.token)
    most = 0
    for seed in range(12):
        content = read(form, generate(grammar, compiler, tokenizer, seed))
        assert content.text == "" and content.calls
        most = max(most, len(content.calls))
        check(content.calls)
    assert (most == 1) == (limit == 1)


@pytest.mark.parametrize("form", FORMS, ids=IDS)
def test_text_or_calls(form: CallFormat, compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    grammar = tools_grammar(form, TOOLS, NAMES, 1, compiler.token, ANY_TEXT)
    begin = "{" if form.opening is None else f"Some {{text}} [1] <a> {form.opening}"
    for seed in range(3):
        content = read(form, generate(grammar, compiler, tokenizer, seed, begin))
        assert content.text == ("" if form.opening is None else "Some {text} [1] <a>")
        assert len(content.calls) == 1
        check(content.calls)
    plain = "Text alone, with\n<tool_cal and [TOOL] and {braces}"
    assert generate(grammar, compiler, tokenizer, 0, plain).startswith(plain)


@pytest.mark.parametrize("form", FORMS, ids=IDS)
def test_json_or_calls(form: CallFormat, compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    grammar = tools_grammar(form, TOOLS, NAMES, None, compiler.token, NUMBER)
    found = [read(form, generate(grammar, compiler, tokenizer, seed)) for seed in range(12)]
    assert {bool(content.calls) for content in found} == {True, False}
    for content in found:
        assert content.text == "" if content.calls else content.text in ("5", "6")
        check(content.calls)


def test_arguments_are_written_as_templates_write_them(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    grammar = tools_grammar(FORMATS[list(FORMATS)[0]], TOOLS, ("weather",), 1, compiler.token)
    text = generate(grammar, compiler, tokenizer, 0)
    body = text.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>")
    assert body == json.dumps(json.loads(body), ensure_ascii=False)


def test_only_strict_functions_are_refused() -> None:
    schema = {"type": "object", "properties": {"a": {"not": {"type": "null"}}}}
    for strict in (True, False):
        tool = {"type": "function", "function": {"name": "weather", "strict": strict, "parameters": schema}}
        if not strict:
            assert tools_grammar(FORMS[0], [tool], NAMES, 1, json.dumps)
            continue
        with pytest.raises(ToolSchemaError, match="leave out strict") as caught:
            tools_grammar(FORMS[0], [tool], NAMES, 1, json.dumps)
        assert caught.value.path == "tools[0].function.parameters.properties.a.not"
