"""Calls in the text of answers: each form, however the text is cut; what is no call stays text."""

import json
from typing import Any

import pytest

from tunesmith_api.chat.styles import ToolStyle
from tunesmith_serving.engines.text_generation.openai.tools.answers import CallDelta, Content, TextDelta, ToolAnswer
from tunesmith_serving.engines.text_generation.openai.tools.forced import ForcedAnswer
from tunesmith_serving.engines.text_generation.openai.tools.formats.base import CallFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.deepseek import PlainDeepSeekFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.glm import GlmFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.mistral import NamedMistralFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.qwen_coder import QwenCoderFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.registry import FORMATS

HERMES, LLAMA, MISTRAL, PHI = ToolStyle.HERMES, ToolStyle.LLAMA, ToolStyle.MISTRAL, ToolStyle.PHI
QWEN, GLM, DEEPSEEK = ToolStyle.QWEN_CODER, ToolStyle.GLM, ToolStyle.DEEPSEEK
NAMES = ("weather", "add", "a.b-c_d")
Expected = tuple[str, list[tuple[str, dict[str, Any]]]]


def call(name: str, arguments: Any = None, key: str = "arguments") -> str:
    return json.dumps({"name": name, key: arguments or {}})


def read(style: ToolStyle, pieces: list[str], limit: int | None = None, hidden: tuple[str, ...] = ()) -> Content:
    parser, content = ToolAnswer(FORMATS[style], NAMES, limit, hidden), Content()
    for piece in pieces:
        content.add(parser.push(piece))
    content.add(parser.finish())
    assert parser.called == bool(content.calls)
    return content


def shape(content: Content) -> Expected:
    return content.text, [(one["name"], json.loads(one["arguments"])) for one in content.calls]


BERLIN = {"city": "Berlin", "days": 2}
# A string with all that ends calls.
AWKWARD = {"q": 'a "quoted" \\ </tool_call> [TOOL_CALLS] ]} <|/tool_call|> 東京 🙂', "n": [1, {"x": None}], "f": 1.5}
CALLS: list[tuple[ToolStyle, str, Expected]] = [
    (HERMES, f"<tool_call>\n{call('weather', BERLIN)}\n</tool_call>", ("", [("weather", BERLIN)])),
    (HERMES, f"<tool_call>{call('add')}</tool_call>", ("", [("add", {})])),
    (
        HERMES,
        f"Let me see.\n<tool_call>\n{call('add', AWKWARD)}\n</tool_call>\n<tool_call>\n{call('add')}\n</tool_call>\n",
        ("Let me see.", [("add", AWKWARD), ("add", {})]),
    ),
    (HERMES, f"<tool_call>\n{call('add')}", ("", [("add", {})])),
    (HERMES, f"<tool_call>\n{call('add')}\n</tool", ("", [("add", {})])),
    (HERMES, f"<tool_call>{call('add')}</tool_call> and that is it", ("and that is it", [("add", {})])),
    (HERMES, '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>', ("", [("add", {"a": 1})])),
    (HERMES, '<tool_call>{"name": "add", "arguments": {"a": "x\ny"}}</tool_call>', ("", [("add", {"a": "x\ny"})])),
    (LLAMA, call("weather", BERLIN, "parameters"), ("", [("weather", BERLIN)])),
    (LLAMA, f"<|python_tag|>{call('weather', AWKWARD, 'parameters')}", ("", [("weather", AWKWARD)])),
    (LLAMA, '{"type": "function", "name": "add", "parameters": {}}', ("", [("add", {})])),
    (LLAMA, f"\n{call('add')}; {call('add', BERLIN)}\n", ("", [("add", {}), ("add", BERLIN)])),
    (MISTRAL, f"[TOOL_CALLS][{call('weather', BERLIN)}]", ("", [("weather", BERLIN)])),
    (MISTRAL, f"[TOOL_CALLS] [{call('add', AWKWARD)}, {call('add')}]", ("", [("add", AWKWARD), ("add", {})])),
    (MISTRAL, '[TOOL_CALLS][{"name": "add", "arguments": {}, "id": "abcdefghi"}]', ("", [("add", {})])),
    (
        MISTRAL,
        f"So:[TOOL_CALLS]weather[ARGS]{json.dumps(BERLIN)}[TOOL_CALLS]a.b-c_d[CALL_ID]123456789[ARGS]{{}}",
        ("So:", [("weather", BERLIN), ("a.b-c_d", {})]),
    ),
    (PHI, f"<|tool_call|>[{call('weather', BERLIN)}]<|/tool_call|>", ("", [("weather", BERLIN)])),
    (PHI, f"<|tool_call|>[{call('add', AWKWARD)},\n {call('add')}]", ("", [("add", AWKWARD), ("add", {})])),
    (PHI, f"functools[{call('weather', BERLIN)}]", ("", [("weather", BERLIN)])),
    (PHI, '<|tool_call|>[{"type": "function", "function": {"name": "add", "arguments": {}}}]', ("", [("add", {})])),
]
QWEN_BERLIN = (
    "<function=weather>\n<parameter=city>\nBerlin\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>"
)
GLM_BERLIN = (
    "weather\n<arg_key>city</arg_key>\n<arg_value>Berlin</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>"
)
CALLS_BEGIN, CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
BEGIN, SEP, END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
LINES = "def f():\n\n    return '</tool_call>' < 1\n"
CALLS += [
    (QWEN, f"<tool_call>\n{QWEN_BERLIN}\n</tool_call>", ("", [("weather", BERLIN)])),
    (
        QWEN,
        f"So:\n<tool_call>{QWEN_BERLIN}</tool_call>\n<tool_call>\n<function=add>\n</function>\n</tool_call>\n",
        ("So:", [("weather", BERLIN), ("add", {})]),
    ),
    (
        QWEN,
        f"<tool_call>\n<function=add>\n<parameter=q>\n{LINES}\n</parameter>\n</function>",
        ("", [("add", {"q": LINES})]),
    ),
    (
        QWEN,
        "<tool_call><function=add><parameter=a>True</parameter>"
        "<parameter=b>\n[1, {}]\n</parameter></function></tool_call>",
        ("", [("add", {"a": True, "b": [1, {}]})]),
    ),
    (GLM, f"<tool_call>{GLM_BERLIN}\n</tool_call>", ("", [("weather", BERLIN)])),
    (
        GLM,
        f"So:\n<tool_call>{GLM_BERLIN}</tool_call><tool_call>add\n</tool_call>\n",
        ("So:", [("weather", BERLIN), ("add", {})]),
    ),
    (
        GLM,
        f"<tool_call>add<arg_key>q</arg_key><arg_value>{LINES}</arg_value></tool_call>",
        ("", [("add", {"q": LINES})]),
    ),
    (
        DEEPSEEK,
        f"{CALLS_BEGIN}{BEGIN}function{SEP}weather\n```json\n{json.dumps(BERLIN)}\n```{END}{CALLS_END}",
        ("", [("weather", BERLIN)]),
    ),
    (
        DEEPSEEK,
        f"So:{CALLS_BEGIN}{BEGIN}function{SEP}add\n```json\n{{}}\n```{END}\n"
        f"{BEGIN}function{SEP}add\n```json\n{json.dumps(AWKWARD)}\n```{END}{CALLS_END}\n",
        ("So:", [("add", {}), ("add", AWKWARD)]),
    ),
    (
        DEEPSEEK,
        f"{CALLS_BEGIN}{BEGIN}a.b-c_d{SEP}{json.dumps(AWKWARD)}{END}{BEGIN}add{SEP}{{}}{END}{CALLS_END}",
        ("", [("a.b-c_d", AWKWARD), ("add", {})]),
    ),
    (DEEPSEEK, f"{CALLS_BEGIN}{BEGIN}add{SEP}{{}}", ("", [("add", {})])),
]

TEXTS: list[tuple[ToolStyle, str]] = [
    (HERMES, "Just text, with < and <tool and <tool_response>.\n"),
    (HERMES, "<tool_call>\nnot JSON at all, but words\n</tool_call>"),
    (HERMES, '<tool_call>{"name": "add", "arguments": {"a": 1'),
    (HERMES, '<tool_call>{"name": "add", "arguments": {}}} and more</tool_call>'),
    (HERMES, f"<tool_call>{call('unknown')}</tool_call>"),
    (HERMES, '<tool_call>{"name": "add", "arguments": [1]}</tool_call>'),
    (HERMES, '<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>'),
    (HERMES, '<tool_call>{"name": 5}</tool_call>'),
    (HERMES, "<tool_call>" + "[" * 100_000),
    (HERMES, " \n "),
    (LLAMA, '{"answer": "JSON that is no call"}'),
    (LLAMA, f"Call {call('add')}"),
    (LLAMA, '{"name": "Bob", "age": 7}'),
    (LLAMA, "{ in braces }"),
    (LLAMA, '{"name": "add", "parameters": {"a": 1'),
    (LLAMA, "<|python_tag|>brave_search.call(query='x')"),
    (MISTRAL, "Text [1] and [TOOL_CALL]."),
    (MISTRAL, "[TOOL_CALLS] sorry, no call"),
    (MISTRAL, "[TOOL_CALLS]add[ARGS]nothing"),
    (MISTRAL, '[TOOL_CALLS][{"name": "add"}, 5]'),
    (PHI, "functools is a module; functools.partial(f)"),
    (PHI, "functools[0] is wrong"),
    (PHI, "<|tool_call|>[oh no]<|/tool_call|>"),
]

TEXTS += [
    (QWEN, "<tool_call>\n<function=add>\n<parameter=a>\n1"),
    (QWEN, "<tool_call>\nwords </tool_call>"),
    (QWEN, "<tool_call>\n<function=unknown>\n</function>\n</tool_call>"),
    (QWEN, "<tool_call>\n<function=add>\nwords</function>\n</tool_call>"),
    (GLM, "<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>1"),
    (GLM, "<tool_call>add and some words</tool_call>"),
    (GLM, "<tool_call> ! </tool_call>"),
    (GLM, "<tool_call>unknown\n</tool_call>"),
    (DEEPSEEK, f"{CALLS_BEGIN} sorry, no call"),
    (DEEPSEEK, f'{CALLS_BEGIN}{BEGIN}function{SEP}add\n```json\n{{"a": 1'),
    (DEEPSEEK, f"{CALLS_BEGIN}{BEGIN}add{SEP}nothing"),
    (DEEPSEEK, f"{BEGIN}unknown{SEP}{{}}{END}{CALLS_END}"),
]


@pytest.mark.parametrize(("style", "text", "expected"), CALLS, ids=[f"{style} {text[:60]}" for style, text, _ in CALLS])
def test_calls(style: ToolStyle, text: str, expected: Expected) -> None:
    assert shape(read(style, [text])) == expected
    for size in (1, 2, 3, 7, 16):
        pieces = [text[place : place + size] for place in range(0, len(text), size)]
        assert shape(read(style, pieces)) == expected, size
    for place in range(len(text)):
        assert shape(read(style, [text[:place], text[place:]])) == expected, place


@pytest.mark.parametrize(("style", "text"), TEXTS, ids=[f"{style} {text[:60]}" for style, text in TEXTS])
def test_what_is_no_call_stays_text(style: ToolStyle, text: str) -> None:
    assert shape(read(style, [text])) == (text, [])
    if len(text) < 1000:
        assert shape(read(style, list(text))) == (text, [])


@pytest.mark.parametrize("style", list(ToolStyle))
def test_text_is_not_held_back(style: ToolStyle) -> None:
    parser, sent = ToolAnswer(FORMATS[style], NAMES, None, ()), ""
    for word in "A sentence {with} [some] <marks> in it".split():
        sent += "".join(delta.text for delta in parser.push(f" {word}") if isinstance(delta, TextDelta))
        assert sent.endswith(word), "only white space and what may be a marker waits"


def test_other_json_is_not_held_back() -> None:
    parser = ToolAnswer(FORMATS[LLAMA], NAMES, None, ())
    assert parser.push('{"answer": "a') == [TextDelta('{"answer": "a')]


def test_deltas_are_those_of_openai() -> None:
    parser = ToolAnswer(FORMATS[HERMES], NAMES, None, ())
    assert parser.push("one<tool") == [TextDelta("one")]
    assert parser.push("_call>" + call("add", {"a": 1})) == []
    first, arguments = parser.push("</tool_call>")
    assert isinstance(first, CallDelta) and isinstance(arguments, CallDelta)
    assert (first.index, first.name, first.arguments) == (0, "add", "") and first.id
    assert (arguments.index, arguments.id, arguments.name, arguments.arguments) == (0, None, None, '{"a": 1}')


def test_one_call_only() -> None:
    text = f"<tool_call>{call('add')}</tool_call><tool_call>{call('weather')}</tool_call> text"
    assert shape(read(HERMES, list(text), limit=1)) == ("", [("add", {})])
    both = f"[TOOL_CALLS][{call('add')}, {call('weather')}]"
    assert shape(read(MISTRAL, [both], limit=1)) == ("", [("add", {})])


def test_markers_that_are_special_tokens_are_never_text() -> None:
    hidden = ("[TOOL_CALLS]", "[ARGS]")
    assert read(MISTRAL, ["a [TOOL_CALLS] b"], hidden=hidden).text == "a  b"
    assert read(MISTRAL, ["[TOOL_CALLS]add[ARGS]no"], hidden=hidden).text == "addno"


def test_ids() -> None:
    ids = {read(style, [text]).calls[0]["id"] for style, text, _ in CALLS}
    assert len(ids) == len(CALLS)
    [short] = read(MISTRAL, [f"[TOOL_CALLS][{call('add')}]"]).calls
    assert len(short["id"]) == 9 and short["id"].isalnum()


def test_half_a_character_in_arguments_can_be_sent() -> None:
    [found] = read(HERMES, ['<tool_call>{"name": "add", "arguments": {"a": "\\ud800 ü"}}</tool_call>']).calls
    assert found["arguments"].encode()
    assert json.loads(found["arguments"]) == {"a": "\ud800 ü"}


SCHEMAS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "q": {"type": "string"},
        "s": {"type": ["string", "null"]},
        "n": {"$ref": "#/$defs/number"},
        "b": {"type": "boolean"},
        "e": {"enum": ["1", 2]},
        "l": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]},
        "any": {},
    },
    "$defs": {"number": {"type": "number"}},
}
TYPED = [{"type": "function", "function": {"name": "add", "parameters": SCHEMAS}}, {"function": {"name": "weather"}}]
VALUES: list[tuple[str, str, Any]] = [
    ("q", "5", "5"), ("q", '"5"', '"5"'), ("q", "", ""), ("q", "True", "True"),
    ("s", "null", None), ("s", "None", None), ("s", "5", "5"), ("s", '"x"', '"x"'),
    ("n", "5", 5), ("n", "1.50", 1.5), ("n", "five", "five"),
    ("b", "False", False), ("b", "true", True), ("b", "1", "1"),
    ("e", "1", "1"), ("e", "2", 2), ("l", "[1, 2]", [1, 2]), ("l", "None", None), ("l", "NaN", "NaN"),
    ("any", '{"a": 1}', {"a": 1}), ("any", "words", "words"), ("unknown", "7", 7),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "value"), VALUES, ids=[f"{name} {text}" for name, text, _ in VALUES])
def test_what_a_text_without_quotes_is_follows_from_the_schema(name: str, text: str, value: Any) -> None:
    qwen = f"<tool_call>\n<function=add>\n<parameter={name}>\n{text}\n</parameter>\n</function>\n</tool_call>"
    glm = f"<tool_call>add\n<arg_key>{name}</arg_key>\n<arg_value>{text}</arg_value>\n</tool_call>"
    for form, written in ((QwenCoderFormat(TYPED), qwen), (GlmFormat(TYPED), glm)):
        parser, content = ToolAnswer(form, NAMES, None, ()), Content()
        content.add([*parser.push(written), *parser.finish()])
        assert shape(content) == ("", [("add", {name: value})])
        forced, content = ForcedAnswer(form), Content()
        for character in written:
            content.add(forced.push(character))
        assert shape(content) == ("", [("add", {name: value})])


@pytest.mark.parametrize("close", ["\n</parameter>", "</arg_value>"])
def test_texts_of_enforced_calls_are_sent_as_they_come(close: str) -> None:
    form: CallFormat = QwenCoderFormat(TYPED) if "parameter" in close else GlmFormat(TYPED)
    begin = (
        "<tool_call>\n<function=add>\n<parameter=q>\n"
        if "parameter" in close
        else "<tool_call>add\n<arg_key>q</arg_key>\n<arg_value>"
    )
    parser, content = ForcedAnswer(form), Content()
    content.add(parser.push(f'{begin}one "two"\nthree'))
    assert content.calls[0]["arguments"] == '{"q": "one \\"two\\"\\nthree'
    content.add(parser.push(close[:5]))
    assert content.calls[0]["arguments"].endswith("three")
    content.add(parser.push(close[5:]))
    assert content.calls[0]["arguments"].endswith('three"')


NAMED = NamedMistralFormat()
PLAIN_DEEPSEEK = PlainDeepSeekFormat()
FORCED: list[tuple[CallFormat, str]] = [
    (FORMATS[HERMES], "<tool_call>\n{}\n</tool_call>\n<tool_call>\n{}\n</tool_call>"),
    (FORMATS[LLAMA], "{}; {}"),
    (FORMATS[MISTRAL], "[TOOL_CALLS][{}, {}]"),
    (FORMATS[PHI], "<|tool_call|>[{}, {}]<|/tool_call|>"),
    (NAMED, "{}{}"),
    (PLAIN_DEEPSEEK, f"{CALLS_BEGIN}{{}}{{}}{CALLS_END}"),
    (FORMATS[DEEPSEEK], f"{CALLS_BEGIN}{{}}\n{{}}{CALLS_END}"),
]


@pytest.mark.parametrize(("format", "frame"), FORCED, ids=[type(format).__name__ for format, _ in FORCED])
def test_enforced_calls_are_never_held_back(format: CallFormat, frame: str) -> None:
    key = "parameters" if format is FORMATS[LLAMA] else "arguments"
    values = [("weather", AWKWARD), ("add", {})]
    written = [json.dumps({"name": name, key: value}, ensure_ascii=False) for name, value in values]
    if format is NAMED:
        written = [f"[TOOL_CALLS]{name}[ARGS]{json.dumps(value, ensure_ascii=False)}" for name, value in values]
    marks = {
        PLAIN_DEEPSEEK: f"{BEGIN}{{}}{SEP}{{}}{END}",
        FORMATS[DEEPSEEK]: f"{BEGIN}function{SEP}{{}}\n```json\n{{}}\n```{END}",
    }
    if format in marks:
        written = [marks[format].format(name, json.dumps(value, ensure_ascii=False)) for name, value in values]
    text = frame.format(*written)
    for size in (1, 3, 10_000):
        parser, content = ForcedAnswer(format), Content()
        for place in range(0, len(text), size):
            content.add(parser.push(text[place : place + size]))
        assert not parser.finish() and parser.called
        assert shape(content) == ("", values)
    cut, content = ForcedAnswer(format), Content()
    content.add(cut.push(text[: text.index("quoted")]))
    assert content.calls[0]["arguments"] == '{"q": "a \\"'
    # The parser of answers that may be text reads the same calls.
    parser, content = ToolAnswer(format, NAMES, None, ()), Content()
    content.add([*parser.push(text), *parser.finish()])
    assert shape(content) == ("", values)
