"""Rows of preferences: OpenAI's JSONL for `method.type` dpo."""

from __future__ import annotations

from typing import Any

from tunesmith_hosted.fine_tuning.rows.chat import RowError, check_messages

_KEYS = frozenset({"input", "preferred_output", "non_preferred_output"})
_INPUT_KEYS = frozenset({"messages", "tools", "parallel_tool_calls"})


def check_preference(row: dict[str, Any]) -> None:
    """Check a row of a job with method dpo.

    Raises:
        RowError: It is wrong.
    """
    for key in ("input", "preferred_output", "non_preferred_output"):
        if key not in row:
            hint = "; create the job with method.type supervised" if "messages" in row else ""
            raise RowError(f"{key} is missing{hint or '; a row has ' + ', '.join(sorted(_KEYS))}")
    if unknown := sorted(row.keys() - _KEYS):
        raise RowError(f"{unknown[0]} is not a key of a row; remove it (there are {', '.join(sorted(_KEYS))})")
    given = row["input"]
    if not isinstance(given, dict) or "messages" not in given:
        raise RowError('input must be {"messages": [...]}')
    if unknown := sorted(given.keys() - _INPUT_KEYS):
        raise RowError(f"input.{unknown[0]} is not a key of input; remove it")
    if given.get("tools"):
        raise RowError("input.tools: tools are not offered with preferences; write them as text in the system message")
    check_messages(given["messages"], "input.messages", None)
    if given["messages"][-1]["role"] == "assistant":
        raise RowError("input.messages must end with the message that both outputs answer, not with the assistant's")
    for key in ("preferred_output", "non_preferred_output"):
        check_messages(row[key], key, None)
        if [message["role"] for message in row[key]] != ["assistant"]:
            raise RowError(f"{key} must be one message of the assistant")
        if row[key][0].get("tool_calls"):
            raise RowError(f"{key}[0].tool_calls: tool calls are not offered with preferences; write them as text")
    if row["preferred_output"][0]["content"] == row["non_preferred_output"][0]["content"]:
        raise RowError("preferred_output and non_preferred_output are equal, so neither is better; remove the row")
