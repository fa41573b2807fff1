"""Tools through real HTTP: a model that has learned conversations with tools by heart, and calls that are enforced."""

import json
from typing import Any

import httpx
import openai
import pytest

from support.serving_process import ServingProcess
from support.source_tree import ROOT
from support.tool_models import ANSWER, GREETING, QUESTION, RESULT, TWO, WEATHER

NOW = {"type": "function", "function": {"name": "now"}}
PICK = {
    "type": "function",
    "function": {
        "name": "pick",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {
                "color": {"enum": ["rot", "grün"]},
                "count": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["color", "count"],
            "additionalProperties": False,
        },
    },
}
Message = dict[str, Any]


@pytest.fixture
def client(tool_client: openai.OpenAI) -> openai.OpenAI:
    return tool_client


def ask(client: openai.OpenAI, messages: list[Any] | str, **options: Any) -> Any:
    turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    given = {"model": "tiny", "messages": turns, "tools": [WEATHER], "temperature": 0, **options}
    return client.chat.completions.create(**{key: value for key, value in given.items() if value is not ...})


def calls_of(message: Any) -> list[tuple[str, Any]]:
    assert all(call.type == "function" and call.id for call in message.tool_calls)
    assert len({call.id for call in message.tool_calls}) == len(message.tool_calls)
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]


def assembled(chunks: list[Any], index: int = 0) -> tuple[str | None, list[tuple[str, Any]], str]:
    """The text, calls and finish reason of a stream, checked chunk by chunk."""
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    assert choices[0].delta.role == "assistant"
    calls: list[list[str]] = []
    for delta in (part for choice in choices for part in choice.delta.tool_calls or ()):
        if delta.index == len(calls):
            assert delta.id and delta.type == "function" and delta.function.name
            calls.append([delta.function.name, ""])
        else:
            assert delta.id is None and delta.type is None and delta.function.name is None
        calls[delta.index][1] += delta.function.arguments
    [reason] = [choice.finish_reason for choice in choices if choice.finish_reason]
    assert choices[-1].finish_reason == reason
    text = "".join(choice.delta.content or "" for choice in choices)
    return text, [(name, json.loads(arguments)) for name, arguments in calls], reason


def test_two_steps(client: openai.OpenAI) -> None:
    first = ask(client, QUESTION).choices[0]
    assert first.finish_reason == "tool_calls"
    assert first.message.content is None
    assert calls_of(first.message) == [("weather", {"city": "Berlin"})]
    asked = {"role": "user", "content": QUESTION}
    result = {"role": "tool", "tool_call_id": first.message.tool_calls[0].id, "content": RESULT}
    for sent in (first.message, first.message.model_dump(), {**first.message.model_dump(), "content": ""}):
        second = ask(client, [asked, sent, result]).choices[0]
        assert (second.finish_reason, second.message.content) == ("stop", ANSWER)
        assert second.message.tool_calls is None
    parts = {**result, "content": [{"type": "text", "text": RESULT}]}
    assert ask(client, [asked, first.message, parts]).choices[0].message.content == ANSWER


def test_streamed(client: openai.OpenAI) -> None:
    chunks = list(ask(client, QUESTION, stream=True, stream_options={"include_usage": True}))
    assert assembled(chunks) == ("", [("weather", {"city": "Berlin"})], "tool_calls")
    assert chunks[-1].usage.completion_tokens == ask(client, QUESTION).usage.completion_tokens
    assert assembled(list(ask(client, "Hello", stream=True))) == (GREETING, [], "stop")


def test_stream_helper(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="tiny", messages=[{"role": "user", "content": QUESTION}], tools=[WEATHER], temperature=0
    ) as stream:
        kinds = {event.type for event in stream}
        message = stream.get_final_completion().choices[0].message
    assert "tool_calls.function.arguments.done" in kinds
    assert message.tool_calls is not None
    assert calls_of(message) == [("weather", {"city": "Berlin"})]


@pytest.mark.parametrize("stream", [False, True])
def test_text_before_two_calls(client: openai.OpenAI, stream: bool) -> None:
    expected = [("weather", {"city": "Berlin"}), ("weather", {"city": "Köln"})]
    answer = ask(client, TWO, stream=stream, n=2)
    if stream:
        chunks = list(answer)
        assert [assembled(chunks, index) for index in (0, 1)] == [("Let me see.", expected, "tool_calls")] * 2
    else:
        assert [choice.message.content for choice in answer.choices] == ["Let me see."] * 2
        assert [calls_of(choice.message) for choice in answer.choices] == [expected] * 2
    one = ask(client, TWO, parallel_tool_calls=False).choices[0]
    assert (one.message.content, calls_of(one.message)) == ("Let me see.", expected[:1])


def test_logprobs_are_those_of_all_tokens(client: openai.OpenAI) -> None:
    whole = ask(client, TWO, logprobs=True).choices[0].logprobs.content
    chunks = list(ask(client, TWO, logprobs=True, stream=True))
    parts = [choice.logprobs.content for chunk in chunks for choice in chunk.choices if choice.logprobs]
    assert [entry.token for part in parts for entry in part] == [entry.token for entry in whole]


def test_an_answer_that_is_cut_within_a_call_is_text(client: openai.OpenAI) -> None:
    tokens = ask(client, QUESTION).usage.completion_tokens
    cut = ask(client, QUESTION, max_tokens=tokens // 2).choices[0]
    assert (cut.finish_reason, cut.message.tool_calls) == ("length", None)
    assert cut.message.content.startswith('<tool_call>\n{"name": "w')
    [*_, last] = [assembled(list(ask(client, QUESTION, max_tokens=tokens // 2, stream=True)))]
    assert last == (cut.message.content, [], "length")


def test_without_tools_the_text_is_left_as_it_is(client: openai.OpenAI) -> None:
    for options in ({"tools": ...}, {"tools": []}, {"tools": None}, {"tool_choice": "none"}):
        choice = ask(client, QUESTION, max_tokens=40, **options).choices[0]
        assert choice.message.tool_calls is None
    plain, none = (ask(client, QUESTION, max_tokens=5, **each) for each in ({"tools": ...}, {"tool_choice": "none"}))
    assert plain.usage.prompt_tokens == none.usage.prompt_tokens
    assert plain.choices[0].message.content == none.choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "function": {"name": "pick"}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [PICK]}},
    ],
    ids=["named", "allowed"],
)
def test_a_call_that_is_asked_for(client: openai.OpenAI, choice: Any, stream: bool) -> None:
    options = {"tools": [WEATHER, PICK, NOW], "tool_choice": choice, "temperature": 1.5, "stream": stream}
    for seed in range(6):
        answer = ask(client, "whatever", seed=seed, parallel_tool_calls=False, **options)
        if stream:
            text, calls, reason = assembled(list(answer))
        else:
            found = answer.choices[0]
            text, calls, reason = found.message.content or "", calls_of(found.message), found.finish_reason
        assert (text, reason) == ("", "tool_calls")
        [(name, arguments)] = calls
        assert name == "pick" and arguments["color"] in ("rot", "grün") and arguments["count"] in range(1, 10)


def test_some_call_is_required(client: openai.OpenAI) -> None:
    options = {"tools": [PICK, NOW], "tool_choice": "required", "temperature": 1.5, "max_tokens": 200}
    seen = set()
    for seed in range(8):
        found = ask(client, "Hello", seed=seed, parallel_tool_calls=False, **options).choices[0]
        assert (found.message.content, found.finish_reason) == (None, "tool_calls")
        [(name, _)] = calls_of(found.message)
        seen.add(name)
    assert seen == {"pick", "now"}
    several = [ask(client, "Hello", seed=seed, **options).choices[0].message for seed in range(8)]
    assert max(len(message.tool_calls) for message in several) > 1
    assert all(message.content is None for message in several)


def test_an_enforced_call_that_is_cut_keeps_its_beginning(client: openai.OpenAI) -> None:
    options = {"tools": [PICK], "tool_choice": "required", "parallel_tool_calls": False}
    whole = ask(client, "Hello", **options)
    options["max_tokens"] = whole.usage.completion_tokens - 6
    cut = ask(client, "Hello", **options).choices[0]
    chunks = [chunk.choices[0] for chunk in ask(client, "Hello", stream=True, **options)]
    assert cut.finish_reason == chunks[-1].finish_reason == "length"
    arguments = cut.message.tool_calls[0].function.arguments
    assert arguments and whole.choices[0].message.tool_calls[0].function.arguments.startswith(arguments)
    calls = [choice.delta.tool_calls[0] for choice in chunks if choice.delta.tool_calls]
    assert "".join(part.function.arguments for part in calls) == arguments


def test_arguments_of_strict_functions_are_enforced_once_a_call_begins(client: openai.OpenAI) -> None:
    cities = {**WEATHER["function"]["parameters"], "properties": {"city": {"enum": ["Bonn", "Basel"]}}}
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    # The model is told of the same function, so that it answers as it has learned.
    found = ask(client, QUESTION, tools=[strict]).choices[0]
    assert calls_of(found.message) == [("weather", {"city": "Berlin"})]
    assert ask(client, "Hello", tools=[strict]).choices[0].message.content == GREETING
    assert assembled(list(ask(client, TWO, tools=[strict], stream=True)))[0] == "Let me see."
    strict["function"]["parameters"] = cities
    found = ask(client, QUESTION, tools=[strict], max_tokens=100).choices[0].message
    assert found.tool_calls is None or calls_of(found)[0][1]["city"] in ("Bonn", "Basel")


def test_a_form_of_answers_without_calls(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    assert calls_of(ask(client, QUESTION, response_format=form).choices[0].message) == [("weather", {"city": "Berlin"})]
    said = ask(client, "Hello", response_format=form).choices[0].message
    assert said.tool_calls or json.loads(said.content)["a"] in (1, 2)
    none = ask(client, QUESTION, response_format=form, tool_choice="none").choices[0].message
    assert json.loads(none.content)["a"] in (1, 2)
    must = ask(client, QUESTION, response_format=form, tool_choice="required", parallel_tool_calls=False).choices[0]
    assert calls_of(must.message)[0][0] == "weather" or must.finish_reason == "length"
    with pytest.raises(openai.BadRequestError, match="cannot be combined with tools"):
        ask(client, QUESTION, extra_body={"structured_outputs": {"regex": "a"}})


def test_only_allowed_tools_are_called(client: openai.OpenAI) -> None:
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NOW]}}
    plain = ask(client, QUESTION, tools=[WEATHER, NOW])
    choice = ask(client, QUESTION, tools=[WEATHER, NOW], tool_choice=allowed, max_tokens=40)
    assert choice.usage.prompt_tokens == plain.usage.prompt_tokens
    assert choice.choices[0].message.tool_calls is None


@pytest.mark.parametrize(
    ("options", "param", "problem"),
    [
        ({"tools": [{"type": "function"}]}, "tools", r"tools: \[0\].function is None"),
        ({"tools": [{"type": "retrieval"}]}, "tools", "only functions are supported"),
        ({"tools": [WEATHER, WEATHER]}, "tools", "earlier function"),
        ({"tools": ..., "tool_choice": "required"}, "tool_choice", "needs tools"),
        ({"tool_choice": "weather"}, "tool_choice", 'must be "none"'),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice", "no function 'f' in tools"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls", "boolean"),
        ({"functions": [NOW["function"]]}, "functions", "write tools"),
        ({"function_call": {"name": "now"}}, "function_call", "write tools"),
        (
            {
                "tools": [{"type": "function", "function": {**PICK["function"], "parameters": {"not": {}}}}],  # type: ignore[dict-item]
                "tool_choice": "required",
            },
            "tools[0].function.parameters.not",
            "leave out strict",
        ),
    ],
)
def test_what_is_wrong_is_named(client: openai.OpenAI, options: Any, param: str, problem: str) -> None:
    extra = {key: options[key] for key in ("functions", "function_call") if key in options}
    rest = {key: value for key, value in options.items() if key not in extra}
    with pytest.raises(openai.BadRequestError, match=problem) as caught:
        ask(client, QUESTION, extra_body=extra, **rest)
    assert caught.value.param == param


def test_wrong_calls_in_messages_are_named(client: openai.OpenAI) -> None:
    broken = {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "weather", "arguments": "{"}}]}
    with pytest.raises(openai.BadRequestError, match=r"\[0\].function.arguments is not JSON") as caught:
        ask(client, [{"role": "user", "content": QUESTION}, broken])
    assert caught.value.param == "messages[1].tool_calls"


def test_tokens_of_a_prompt_with_tools(client: openai.OpenAI, tool_server: ServingProcess) -> None:
    body = {"messages": [{"role": "user", "content": QUESTION}], "tools": [WEATHER]}
    count = httpx.post(f"{tool_server.url}/tokenize", json=body).json()["count"]
    assert count == ask(client, QUESTION).usage.prompt_tokens


def test_the_documented_loop(client: openai.OpenAI) -> None:
    section = (ROOT / "docs" / "serving.md").read_text().split("\n## Tools\n")[1]
    code = section.split("```python\n")[1].split("```")[0].replace('model="quickstart"', 'model="tiny", temperature=0')
    asked: list[str] = []

    def look_up_the_weather(city: str) -> str:
        asked.append(city)
        return RESULT

    names = {"client": client, "look_up_the_weather": look_up_the_weather}
    exec(code, names)
    assert asked == ["Berlin"]
    assert names["answer"].choices[0].message.content == ANSWER  # type: ignore[attr-defined]
