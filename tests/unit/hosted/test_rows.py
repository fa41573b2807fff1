"""Rows of files: what is right, and what is said of what is wrong."""

import io
import json
from typing import Any

import pytest

from tunesmith_hosted.fine_tuning.rows import check
from tunesmith_hosted.fine_tuning.rows.check import check_file

USER = {"role": "user", "content": "How warm is it?"}
ANSWER = {"role": "assistant", "content": "Mild.", "weight": 1}
FUNCTION = {"name": "weather", "parameters": {"type": "object"}}
TOOLS = [{"type": "function", "function": FUNCTION}]
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}
CALLS = {"role": "assistant", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "18"}
PAIR = {
    "input": {"messages": [USER], "tools": [], "parallel_tool_calls": True},
    "preferred_output": [{"role": "assistant", "content": "18 degrees."}],
    "non_preferred_output": [{"role": "assistant", "content": "Mild."}],
}


def checked(*rows: Any, method: Any = "supervised", least: int = 1) -> str:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    return check_file(io.BytesIO(b"\n".join(lines)), method, least).message


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, ANSWER]},
        {"messages": [{"role": "system", "content": "Be brief"}, USER, {**ANSWER, "weight": 0}, USER, ANSWER]},
        {"messages": [{"role": "developer", "content": [{"type": "text", "text": "Be brief"}]}, USER, ANSWER]},
        {"messages": [USER, CALLS, RESULT, ANSWER], "tools": TOOLS, "parallel_tool_calls": False},
        {"messages": [USER, CALLS], "tools": TOOLS},
    ],
)
def test_right_rows(row: Any) -> None:
    assert checked(row, b"", row) == ""


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (b"{", "is not JSON"),
        (b"\xff", "is not UTF-8"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1]", "must be a JSON object"),
        ({"prompt": "a", "completion": "b"}, "messages is missing"),
        ({"messages": [USER, ANSWER], "functions": []}, "functions is the old form"),
        ({"messages": [USER, ANSWER], "extra": 1}, "extra is not a key of a row"),
        ({"messages": []}, "at least one message"),
        ({"messages": ["hi"]}, r"messages[0] must be an object"),
        ({"messages": [{"content": "x"}]}, "messages[0].role is missing"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 'messages[0].role is "robot"'),
        ({"messages": [{**USER, "weight": 1}, ANSWER]}, "only those of the assistant have weights"),
        ({"messages": [USER, {**ANSWER, "weight": 0.5}]}, "messages[1].weight must be 0 or 1"),
        ({"messages": [USER, {**ANSWER, "weight": True}]}, "messages[1].weight must be 0 or 1"),
        ({"messages": [USER, {**ANSWER, "weight": 0}]}, "nothing to learn"),
        ({"messages": [USER]}, "must end with a message of the assistant"),
        ({"messages": [USER, {"role": "assistant"}]}, "messages[1].content is missing"),
        ({"messages": [{"role": "user", "content": 3}, ANSWER]}, "messages[0].content must be a text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, ANSWER]},
            "messages[0].content[0] is of the type image_url",
        ),
        ({"messages": [{**USER, "tool_calls": [CALL]}, ANSWER]}, "only the assistant calls tools"),
        ({"messages": [USER, CALLS], "tools": [{"type": "function", "function": {"name": "x"}}]}, "is not in tools"),
        ({"messages": [USER, {**CALLS, "tool_calls": [{**CALL, "id": None}]}]}, "tool_calls[0].id is missing"),
        (
            {
                "messages": [
                    USER,
                    {**CALLS, "tool_calls": [{**CALL, "function": {"name": "weather", "arguments": "{"}}]},
                ]
            },
            "arguments must be the JSON text of an object",
        ),
        ({"messages": [USER, CALLS, {**RESULT, "tool_call_id": "c2"}, ANSWER]}, "names no call before it"),
        ({"messages": [USER, ANSWER], "tools": {}}, "tools must be a list"),
        ({"messages": [USER, ANSWER], "tools": [{}]}, "tools[0] must be"),
        ({"messages": [USER, ANSWER], "parallel_tool_calls": 1}, "must be true or false"),
        (PAIR, "create the job with method.type dpo"),
    ],
)
def test_wrong_rows(row: Any, said: str) -> None:
    message = checked({"messages": [USER, ANSWER]}, row)
    assert message.startswith("Line 2: ") and said in message, message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"input": None}, "input must be"),
        ({"input": {"messages": [USER, ANSWER]}}, "must end with the message that both outputs answer"),
        ({"input": {"messages": [USER], "tools": TOOLS}}, "tools are not offered with preferences"),
        ({"preferred_output": [USER]}, "preferred_output must be one message of the assistant"),
        ({"preferred_output": [CALLS]}, "tool calls are not offered"),
        ({"preferred_output": PAIR["non_preferred_output"]}, "are equal"),
        ({"extra": 1}, "extra is not a key of a row"),
    ],
)
def test_preferences(change: Any, said: str) -> None:
    message = checked({**PAIR, **change}, method="dpo")
    assert said in message and bool(message) == bool(said), message


def test_preferences_without_an_answer() -> None:
    assert "non_preferred_output is missing" in checked({"input": {}, "preferred_output": []}, method="dpo")
    assert "create the job with method.type supervised" in checked({"messages": [USER, ANSWER]}, method="dpo")


def test_too_few_rows_and_many_wrong_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked({"messages": [USER, ANSWER]}, least=10) == (
        "The file has 1 example(s), but must have at least 10 examples."
    )
    message = checked(*[{"messages": []}] * 8)
    assert message.count("Line ") == 5 and message.endswith(" 3 more lines are wrong.")
    monkeypatch.setattr(check, "MAX_LINE_BYTES", 100)
    assert "Line 2: is longer" in checked({"messages": []}, b"x" * 101, b"{}")
