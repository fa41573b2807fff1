"""Grammars of answers that call tools: whatever a model prefers, the answer is calls that are read back and valid."""

import json
from typing import Any

import numpy as np
import pytest

from support.tiny_models import train_tokenizer
from support.tool_templates import SPECIAL
from tunesmith_serving.engines.text_generation.openai.tools.answers import Content, ToolAnswer
from tunesmith_serving.engines.text_generation.openai.tools.arguments import ToolSchemaError
from tunesmith_serving.engines.text_generation.openai.tools.constraint import ANY_TEXT, tools_grammar
from tunesmith_serving.engines.text_generation.openai.tools.formats.base import CallFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.deepseek import PlainDeepSeekFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.glm import GlmFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.mistral import NamedMistralFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.qwen_coder import QwenCoderFormat
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
FORMS: list[CallFormat] = [*FORMATS.values(), NamedMistralFormat(), PlainDeepSeekFormat(), GlmFormat(TOOLS, True)]
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


SAY: dict[str, Any] = {
    "name": "say",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "loud": {"type": "boolean"},
            "tone": {"$ref": "#/$defs/tone"},
            "times": {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 2},
        },
        "required": ["text", "times"],
        "additionalProperties": False,
        "$defs": {"tone": {"enum": ["low", "high"]}},
    },
}
SPOKEN = 'any "text" <of> {two}\nlines, </para'
BEGINNINGS = {
    QwenCoderFormat: f"<tool_call>\n<function=say>\n<parameter=text>\n{SPOKEN}\n</parameter>\n",
    GlmFormat: f"<tool_call>say\n<arg_key>text</arg_key>\n<arg_value>{SPOKEN}</arg_value>\n",
}


@pytest.mark.parametrize("has_special", [True, False], ids=["special", "plain"])
@pytest.mark.parametrize("kind", list(BEGINNINGS))
def test_parameters_without_quotes(kind: type[Any], has_special: bool, compiler: Any, tokenizer: Tokenizer) -> None:
    """A text is free and ends at its mark; the other values are by the schema, and what is required is there."""
    tools = [{"type": "function", "function": SAY}]
    form: CallFormat = kind(tools)
    given = tokenizer
    if not has_special:
        given = Tokenizer(train_tokenizer().backend_tokenizer.to_str())
        compiler = GrammarCompiler(given, given.vocab_size, frozenset())
    grammar = tools_grammar(form, tools, ["say"], 1, compiler.token)
    seen: set[str] = set()
    for seed in range(10):
        rng, constraint = np.random.default_rng(seed), compiler.compile_now(grammar).start()
        ids = given.encode(BEGINNINGS[kind], add_special_tokens=False)
        for token in ids:
            logits = np.zeros(given.vocab_size, np.float32)
            constraint.allow(logits)
            assert np.isfinite(logits[token]), given.token(token)
            constraint.accept(token)
        while not constraint.done and len(ids) < 400:
            logits = rng.normal(size=given.vocab_size).astype(np.float32)
            constraint.allow(logits)
            if has_special and int(logits.argmax()) == end(given):
                break
            ids.append(int(logits.argmax()))
            constraint.accept(ids[-1])
        text = given.decode(ids, skip_special_tokens=False)
        parser, content = ToolAnswer(form, ["say"], None, ()), Content()
        content.add([*parser.push(text), *parser.finish()])
        assert content.text == "" and len(content.calls) == 1
        found = json.loads(content.calls[0]["arguments"])
        seen |= found.keys()
        assert found["text"] == SPOKEN and set(found["times"]) <= {1, 2} and len(found["times"]) <= 2
        assert found.get("loud", True) in (True, False) and found.get("tone", "low") in ("low", "high")
    assert seen == {"text", "loud", "tone", "times"}


def test_what_cannot_be_enforced_without_quotes_is_named() -> None:
    broken = {**SAY, "parameters": {"type": "object", "properties": {"a": {"type": "string", "pattern": "^x"}}}}
    for form in (QwenCoderFormat(), GlmFormat()):
        with pytest.raises(ToolSchemaError, match="plain text; list the values in the parameter's enum") as caught:
            tools_grammar(form, [{"type": "function", "function": broken}], ["say"], 1, json.dumps)
        assert caught.value.path == "tools[0].function.parameters.properties.a.pattern"
        lenient = {"type": "function", "function": {**broken, "strict": False}}
        assert tools_grammar(form, [lenient], ["say"], 1, json.dumps)
