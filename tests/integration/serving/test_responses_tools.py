"""Functions in OpenAI's Responses API: a model that has learned to call one by heart, and calls that are enforced."""

import json
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from support.responses import events_of, without_ids
from support.serving_process import ServingProcess
from support.tool_models import ANSWER, GREETING, QUESTION, RESULT, TWO, WEATHER

FUNCTION: Any = {"type": "function", "strict": None, **WEATHER["function"]}
PICK: Any = {
    "type": "function",
    "name": "pick",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"color": {"enum": ["rot", "grün"]}, "count": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["color", "count"],
        "additionalProperties": False,
    },
}
OPTIONS: dict[str, Any] = {"model": "tiny", "temperature": 0, "tools": [FUNCTION]}


@pytest.fixture
def client(tool_client: openai.OpenAI) -> openai.OpenAI:
    return tool_client


def calls_of(response: Response) -> list[tuple[str, Any]]:
    calls = [item for item in response.output if item.type == "function_call"]
    assert len({call.call_id for call in calls}) == len(calls)
    return [(call.name, json.loads(call.arguments)) for call in calls]


def test_two_steps(client: openai.OpenAI) -> None:
    first = client.responses.create(input=QUESTION, **OPTIONS)
    Response.model_validate(first.to_dict())
    assert (first.status, first.output_text) == ("completed", "")
    assert [item.type for item in first.output] == ["function_call"]
    assert calls_of(first) == [("weather", {"city": "Berlin"})]
    [call] = first.output
    asked: Any = {"role": "user", "content": QUESTION}
    for output in (RESULT, [{"type": "input_text", "text": RESULT}]):
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": output}  # type: ignore[union-attr]
        second = client.responses.create(input=[asked, call, result], **OPTIONS)  # type: ignore[list-item]
        assert second.output_text == ANSWER
        assert [item.type for item in second.output] == ["message"]
    assert client.responses.create(input="Hello", **OPTIONS).output_text == GREETING


def test_text_before_two_calls(client: openai.OpenAI, tool_server: ServingProcess) -> None:
    whole = client.responses.create(input=TWO, **OPTIONS)
    assert [item.type for item in whole.output] == ["message", "function_call", "function_call"]
    assert whole.output_text == "Let me see."
    assert calls_of(whole) == [("weather", {"city": "Berlin"}), ("weather", {"city": "Köln"})]
    one = client.responses.create(input=TWO, parallel_tool_calls=False, **OPTIONS)
    assert calls_of(one) == [("weather", {"city": "Berlin"})]
    # What the model said and called comes back as one turn, so that the model goes on as it has learned.
    events = events_of(tool_server, input=TWO, **OPTIONS)
    assert without_ids(events[-1]["response"]) == without_ids(whole.to_dict(mode="json"))
    kinds = [event["type"].removeprefix("response.") for event in events if "delta" not in event]
    call = ["output_item.added", "function_call_arguments.done", "output_item.done"]
    assert kinds == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.done", "content_part.done", "output_item.done", *call, *call, "completed"),
    ]
    for index, item in list(enumerate(events[-1]["response"]["output"]))[1:]:
        mine = [event for event in events if event.get("item_id") == item["id"]]
        assert "".join(event.get("delta", "") for event in mine) == item["arguments"] == mine[-1]["arguments"]
        assert {event["output_index"] for event in mine} == {index}


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"pick", "weather"}),
        ({"type": "function", "name": "pick"}, {"pick"}),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]},
         {"weather"}),
    ],
)  # fmt: skip
def test_calls_that_are_enforced(client: openai.OpenAI, choice: Any, names: set[str]) -> None:
    options: Any = {**OPTIONS, "tools": [PICK, FUNCTION], "tool_choice": choice, "parallel_tool_calls": False}
    with client.responses.stream(input="Hello", max_output_tokens=200, **options) as stream:
        kinds = {event.type for event in stream}
        response = stream.get_final_response()
    assert "response.function_call_arguments.done" in kinds
    [(name, arguments)] = calls_of(response)
    assert name in names
    if name == "pick":
        assert arguments["color"] in ("rot", "grün") and 1 <= arguments["count"] <= 9
    Response.model_validate(response.to_dict())


def test_no_calls_where_none_are_wanted(client: openai.OpenAI) -> None:
    response = client.responses.create(input=QUESTION, tool_choice="none", **OPTIONS)
    assert calls_of(response) == []
    assert response.tool_choice == "none"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tool_choice": {"type": "function", "name": "other"}}, "tool_choice"),
        ({"tools": [{"type": "function", "name": "a b"}]}, "tools"),
        ({"tools": [{**PICK, "parameters": {"type": "object", "not": {}}}], "tool_choice": "required"}, "tools[0]"),
    ],
)
def test_wrong_tools(client: openai.OpenAI, body: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(input=QUESTION, **{**OPTIONS, **body})
    assert (caught.value.param or "").startswith(param)
    assert "function.parameters" not in str(caught.value)
