"""The messages of a request become the turns that training makes of the same messages."""

from typing import Any

import pytest

from tunesmith_serving.engines.text_generation.openai.messages import Message, conversation
from tunesmith_trainer.data.conversation import read_turns

ANSWER = {"role": "assistant", "content": "yes"}
CALLING: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "refusal": None,
    "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": [1, "ü"]}'}},
        {"id": "b", "function": {"name": "g", "arguments": {}}},
        {"function": {"name": "g", "arguments": ""}},
    ],
}


def part(text: str, **extra: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **extra}


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "hi"}, ANSWER],
        [{"role": "user", "content": [part("alpha"), part("beta")]}, ANSWER],
        [{"role": "user", "content": [part("alpha\n"), part(""), part(" beta", cache_control={})]}, ANSWER],
        [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "hi"}, ANSWER],
        [{"role": "system", "content": ""}, {"role": "user", "content": "hi"}, ANSWER],
        [{"role": "user", "content": "hi", "name": "bob"}, {**ANSWER, "refusal": None, "tool_calls": None}],
        [{"role": "user", "content": "hi"}, {"role": "tool", "content": "42", "tool_call_id": "1"}, ANSWER],
        [{"role": "user", "content": "hi"}, CALLING, {"role": "tool", "content": "", "tool_call_id": "a"}, ANSWER],
        [{**CALLING, "content": "See."}, {"role": "tool", "content": "7", "tool_call_id": "a", "name": "f"}, ANSWER],
        [{"role": "assistant", "tool_calls": CALLING["tool_calls"], "function_call": None, "audio": None}, ANSWER],
    ],
    ids=str,
)
def test_serving_reads_messages_as_training_does(messages: list[dict[str, Any]]) -> None:
    trained = [turn.message for turn in read_turns("row 1", "messages", messages)]
    assert conversation([Message.model_validate(message) for message in messages]) == trained


def test_arguments_reach_the_template_as_objects() -> None:
    [turn] = conversation([Message.model_validate(CALLING)])
    assert turn["content"] == ""
    assert [call["function"]["arguments"] for call in turn["tool_calls"]] == [{"x": [1, "ü"]}, {}, {}]


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ({**CALLING, "role": "user"}, "only messages of the assistant"),
        ({**CALLING, "tool_calls": "f"}, "not a list"),
        ({**CALLING, "tool_calls": [{"id": 1, "function": {"name": "f"}}]}, r"\[0\].id is 1"),
        ({**CALLING, "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}, r"\[0\].*arguments is not JSON"),
        ({**CALLING, "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}, r"is \[1\], not an object"),
        ({**CALLING, "tool_calls": [{"type": "custom", "custom": {}}]}, "not the call of a function"),
        ({"role": "assistant", "content": None, "function_call": {"name": "f"}}, "write tool_calls"),
        ({"role": "assistant", "content": None}, "must be text, not null"),
        ({"role": "user", "content": None}, "must be text, not null"),
        ({"role": "tool", "content": "1", "tool_call_id": 5}, "valid string"),
    ],
)
def test_wrong_calls_are_refused(message: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Message.model_validate(message)
