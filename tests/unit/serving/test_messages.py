"""The messages of a request become the turns that training makes of the same messages."""

from typing import Any

import pytest

from tunesmith_serving.engines.text_generation.openai.messages import Message, conversation
from tunesmith_trainer.data.conversation import read_turns

ANSWER = {"role": "assistant", "content": "yes"}


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
    ],
    ids=str,
)
def test_serving_reads_messages_as_training_does(messages: list[dict[str, Any]]) -> None:
    trained = [{"role": turn.role, "content": turn.content} for turn in read_turns("row 1", "messages", messages)]
    assert conversation([Message.model_validate(message) for message in messages]) == trained
