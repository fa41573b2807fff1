"""Calls in the text of answers: each form, however the text is cut; what is no call stays text."""

import json
from typing import Any

import pytest

from tunesmith_api.chat.styles import ToolStyle
from tunesmith_serving.engines.text_generation.openai.tools.answers import CallDelta, Content, TextDelta, ToolAnswer
from tunesmith_serving.engines.text_generation.openai.tools.forced import ForcedAnswer
from tunesmith_serving.engines.text_generation.openai.tools.formats.base import CallFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.mistral import NamedMistralFormat
from tunesmith_serving.engines.text_generation.openai.tools.formats.registry import FORMATS

HERMES, LLAMA, MISTRAL, PHI = ToolStyle.HERMES, ToolStyle.LLAMA, ToolStyle.MISTRAL, ToolStyle.PHI
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


NAMED = NamedMistralFormat()
FORCED: list[tuple[CallFormat, str]] = [
    (FORMATS[HERMES], "<tool_call>\n{}\n</tool_call>\n<tool_call>\n{}\n</tool_call>"),
    (FORMATS[LLAMA], "{}; {}"),
    (FORMATS[MISTRAL], "[TOOL_CALLS][{}, {}]"),
    (FORMATS[PHI], "<|tool_call|>[{}, {}]<|/tool_call|>"),
    (NAMED, "{}{}"),
]


@pytest.mark.parametrize(("format", "frame"), FORCED, ids=[type(format).__name__ for format, _ in FORCED])
def test_enforced_calls_are_never_held_back(format: CallFormat, frame: str) -> None:
    key = "parameters" if format is FORMATS[LLAMA] else "arguments"
    values = [("weather", AWKWARD), ("add", {})]
    written = [json.dumps({"name": name, key: value}, ensure_ascii=False) for name, value in values]
    if format is NAMED:
        written = [f"[TOOL_CALLS]{name}[ARGS]{json.dumps(value, ensure_ascii=False)}" for name, value in values]
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
