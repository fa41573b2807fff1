"""OpenAI's Responses API, by the official client; what the server sends is valid by the client's types."""

from typing import Any, Literal

import httpx
import openai
import pytest
from openai.types.responses import Response
from pydantic import BaseModel

from support.responses import events_of, without_ids
from support.serving_process import ServingProcess, wait_until

TEXT = "What is the learning rate?"
GREEDY: dict[str, Any] = {"model": "tiny", "temperature": 0, "max_output_tokens": 24}
FORM = {
    "type": "json_schema",
    "name": "kind",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {"kind": {"enum": ["cat", "dog"]}, "legs": {"type": "integer", "minimum": 0, "maximum": 8}},
        "required": ["kind", "legs"],
        "additionalProperties": False,
    },
}


def test_a_text_is_answered_as_in_a_chat(client: openai.OpenAI) -> None:
    response = client.responses.create(input=TEXT, **GREEDY)
    Response.model_validate(response.to_dict())
    messages: Any = [{"role": "user", "content": TEXT}]
    chat = client.chat.completions.create(model="tiny", messages=messages, max_tokens=24, temperature=0)
    assert response.output_text == chat.choices[0].message.content
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output[0].status == "incomplete"  # type: ignore[union-attr]
    usage, expected = response.usage, chat.usage
    assert usage is not None and expected is not None
    assert (usage.input_tokens, usage.output_tokens) == (expected.prompt_tokens, 24)
    assert usage.input_tokens_details.cached_tokens >= 0
    assert (response.model, response.object, response.store) == ("tiny", "response", False)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "body",
    [
        {"max_output_tokens": 24},
        {"max_output_tokens": 60, "text": {"format": FORM}},
        {"max_output_tokens": 12, "include": ["message.output_text.logprobs"], "top_logprobs": 2},
        {"max_output_tokens": 5, "logit_bias": {"2": 100}},
    ],
    ids=["cut", "form", "logprobs", "no text"],
)
def test_a_stream_builds_the_response(server: ServingProcess, body: dict[str, Any]) -> None:
    request = {"model": "tiny", "input": TEXT, "temperature": 0, **body}
    whole = httpx.post(f"{server.url}/v1/responses", json=request, timeout=300).json()
    Response.model_validate(whole)
    events = events_of(server, **request)
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    status = whole["status"]
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", status]
    assert set(kinds[4:-4]) <= {"output_text.delta"}
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    text = "".join(event["delta"] for event in deltas)
    assert without_ids(events[-1]["response"]) == without_ids(whole)
    assert text == whole["output"][0]["content"][0]["text"] == events[-4]["text"]
    assert [entry for event in deltas for entry in event["logprobs"]] == whole["output"][0]["content"][0]["logprobs"][
        : sum(len(event["logprobs"]) for event in deltas)
    ]
    # Each event shows its item as it was then.
    assert events[2]["item"]["content"] == []
    assert events[2]["item"]["status"] == "in_progress"
    assert events[3]["part"]["text"] == ""
    assert events[-2]["item"] == events[-1]["response"]["output"][0]
    assert len({event["item_id"] for event in events if "item_id" in event}) == 1
    assert {event["response"]["id"] for event in events if "response" in event} == {events[0]["response"]["id"]}


def test_items_are_the_messages_of_a_chat(client: openai.OpenAI) -> None:
    turns: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is the learning rate?"},
        {"role": "assistant", "content": "The size of each step."},
        {"role": "user", "content": "And the batch size?"},
    ]
    chat = client.chat.completions.create(model="tiny", messages=turns, max_tokens=24, temperature=0)
    plain = client.responses.create(input=turns, **GREEDY)
    parts: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "What is the "},
                                     {"type": "input_text", "text": "learning rate?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
         "content": [{"type": "output_text", "text": "The size of each step.", "annotations": []}]},
        {"type": "message", "role": "user", "content": "And the batch size?"},
    ]  # fmt: skip
    instructed = client.responses.create(input=parts, instructions="Be brief.", **GREEDY)
    assert plain.output_text == instructed.output_text == chat.choices[0].message.content
    assert plain.usage == instructed.usage
    # An answer goes back as it came.
    again = client.responses.create(
        input=[turns[1], *(item.to_dict() for item in plain.output), turns[3]],  # type: ignore[list-item]
        **GREEDY,
    )
    assert again.output_text


class Kind(BaseModel):
    kind: Literal["cat", "dog"]
    legs: int | None


def test_parse_and_stream_helpers(client: openai.OpenAI) -> None:
    options: Any = {"model": "tiny", "input": TEXT, "temperature": 0, "text_format": Kind}
    parsed = client.responses.parse(**options).output_parsed
    assert isinstance(parsed, Kind)
    with client.responses.stream(**options) as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_parsed == parsed
    assert kinds[-1] == "response.completed"
    assert client.responses.create(
        input=TEXT, text={"format": {"type": "json_object"}}, **GREEDY
    ).output_text.startswith("{")


def test_values_that_ask_for_nothing_are_taken(client: openai.OpenAI) -> None:
    neutral = client.responses.create(
        input=TEXT,
        **GREEDY,
        instructions=None,
        include=["reasoning.encrypted_content"],
        metadata={"a": "b"},
        parallel_tool_calls=True,
        previous_response_id=None,
        prompt_cache_key="x",
        reasoning={"effort": "none"},
        safety_identifier="x",
        service_tier="auto",
        store=False,
        text={"format": {"type": "text"}, "verbosity": "medium"},
        tool_choice="auto",
        tools=[],
        top_p=1,
        truncation="disabled",
        background=False,
        user="me",
        extra_body={"top_k": 0},
    )
    assert neutral.metadata == {"a": "b"}
    assert neutral.output_text == client.responses.create(input=TEXT, **GREEDY).output_text


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"input": None}, "input", "a list of items"),
        ({"input": []}, "input", "not empty"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input", "[0].role must be one of user"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input",
         "[0].content[0] is of type 'input_image'"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input", "send the item itself"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input", "leave it out"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input", "[0].call_id must be a text"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "keeps no responses"),
        ({"conversation": "conv_1"}, "conversation", "keeps no responses"),
        ({"background": True}, "background", "stream it"),
        ({"max_tokens": 5}, "max_tokens", "max_output_tokens"),
        ({"messages": []}, "messages", "input"),
        ({"n": 2}, "n", "one answer"),
        ({"reasoning": {"effort": "high"}}, "reasoning", "leave it out"),
        ({"truncation": "auto"}, "truncation", "shorter input"),
        ({"include": ["file_search_call.results"]}, "include", "message.output_text.logprobs"),
        ({"tools": [{"type": "web_search"}]}, "tools", "only functions"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", '"name": "..."'),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"max_output_tokens": 0}, "max_output_tokens", "greater than or equal to 1"),
        ({"input": "x " * 600}, "input", "context length"),
        ({"text": {"verbosity": "low"}}, "text.verbosity", "only medium"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name", "required"),
        ({"text": {"format": {**FORM, "schema": {"not": {}}}}}, "text.format.schema.not", "strict: false"),
        ({"response_format": {"type": "json_object"}}, "response_format", "text.format"),
        ({"instruction": "x"}, "instruction", "did you mean instructions"),
        ({"model": "other"}, "model", "does not exist"),
    ],
)  # fmt: skip
def test_bad_requests_name_the_field_as_it_is_here(
    server: ServingProcess, body: dict[str, Any], param: str, words: str
) -> None:
    response = httpx.post(f"{server.url}/v1/responses", json={"model": "tiny", "input": TEXT, **body})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (404 if param == "model" else 400, param)
    assert words in error["message"]


def test_a_client_that_leaves_frees_the_slot(server: ServingProcess, client: openai.OpenAI) -> None:
    stream = client.responses.create(
        model="tiny", input=TEXT, stream=True, max_output_tokens=450, extra_body={"logit_bias": {"2": -100}}
    )
    assert next(stream).type == "response.created"  # type: ignore[call-overload]
    stream.close()  # type: ignore[union-attr]
    wait_until(lambda: "tunesmith_slots_in_use 0.0" in httpx.get(f"{server.url}/metrics").text)
