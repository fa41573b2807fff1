"""Rows of conversations: OpenAI's chat JSONL, with tools and weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_ROLES = ("system", "developer", "user", "assistant", "tool")
_KEYS = frozenset({"messages", "tools", "parallel_tool_calls"})
_MESSAGE_KEYS = frozenset({"role", "content", "name", "weight", "tool_calls", "tool_call_id", "refusal", "audio"})
_OLD = frozenset({"functions", "function_call"})


class RowError(Exception):
    """A row is wrong. The message names the place in it and what to write."""


def check_chat(row: dict[str, Any]) -> None:
    """Check a row of a supervised job.

    Raises:
        RowError: It is wrong.
    """
    if old := sorted(_OLD & row.keys()):
        raise RowError(f"{old[0]} is the old form; write tools and tool_calls")
    if "messages" not in row:
        if {"preferred_output", "non_preferred_output"} & row.keys():
            raise RowError("this is a row of preferences; create the job with method.type dpo")
        raise RowError('messages is missing; write {"messages": [{"role": "user", ...}, {"role": "assistant", ...}]}')
    if unknown := sorted(row.keys() - _KEYS):
        raise RowError(f"{unknown[0]} is not a key of a row; remove it (there are {', '.join(sorted(_KEYS))})")
    if not isinstance(row.get("parallel_tool_calls", True), bool):
        raise RowError("parallel_tool_calls must be true or false")
    tools = check_tools(row.get("tools"))
    messages = row["messages"]
    check_messages(messages, "messages", tools)
    if messages[-1]["role"] != "assistant":
        raise RowError(f"messages must end with a message of the assistant, not of {messages[-1]['role']}")
    if not any(message["role"] == "assistant" and message.get("weight", 1) for message in messages):
        raise RowError("messages: no message of the assistant has a weight of 1, so there is nothing to learn")


def check_messages(messages: Any, place: str, tools: frozenset[str] | None) -> None:  # noqa: ANN401 - any JSON value
    """Check a list of messages.

    Args:
        messages: The list.
        place: Its name in the row.
        tools: Names of the tools that may be called; None if none are defined.

    Raises:
        RowError: It is wrong.
    """
    if not isinstance(messages, list) or not messages:
        raise RowError(f"{place} must be a list of at least one message")
    calls: set[str] = set()
    for number, message in enumerate(messages):
        where = f"{place}[{number}]"
        if not isinstance(message, dict):
            raise RowError(f'{where} must be an object such as {{"role": "user", "content": "..."}}')
        _check_message(message, where, tools, calls)


def _check_message(message: dict[str, Any], where: str, tools: frozenset[str] | None, calls: set[str]) -> None:
    role = message.get("role")
    if role not in _ROLES:
        what = "is missing" if role is None else f"is {json.dumps(role)[:40]}"
        raise RowError(f"{where}.role {what}; write one of {', '.join(_ROLES)}")
    if "function_call" in message:
        raise RowError(f"{where}.function_call is the old form; write tool_calls")
    if unknown := sorted(message.keys() - _MESSAGE_KEYS):
        raise RowError(f"{where}.{unknown[0]} is not a key of a message; remove it")
    weight = message.get("weight")
    if weight is not None:
        if role != "assistant":
            raise RowError(f"{where}.weight is of a message of {role}; only those of the assistant have weights")
        if isinstance(weight, bool) or weight not in (0, 1):
            raise RowError(f"{where}.weight must be 0 or 1")
    for id in _check_calls(message.get("tool_calls"), role, where, tools):
        calls.add(id)
    if role == "tool":
        if not isinstance(message.get("tool_call_id"), str):
            raise RowError(f"{where}.tool_call_id is missing; write the id of the call that this is the result of")
        if message["tool_call_id"] not in calls:
            raise RowError(f"{where}.tool_call_id names no call before it; write the id of one")
    _check_content(message, where)


def _check_content(message: dict[str, Any], where: str) -> None:
    content = message.get("content")
    if content is None:
        if message["role"] == "assistant" and (message.get("tool_calls") or message.get("refusal")):
            return
        raise RowError(f"{where}.content is missing; write its text")
    if isinstance(content, str):
        return
    if not isinstance(content, list) or not content:
        raise RowError(f"{where}.content must be a text, or a list of parts of text")
    for number, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else None
            what = f"is of the type {kind}; only text is offered" if kind not in (None, "text") else "is no text"
            raise RowError(f'{where}.content[{number}] {what}: write {{"type": "text", "text": "..."}}')


def _check_calls(calls: Any, role: str, where: str, tools: frozenset[str] | None) -> Iterator[str]:  # noqa: ANN401
    """Check the calls of a message, and yield their ids."""
    if calls is None:
        return
    if role != "assistant":
        raise RowError(f"{where}.tool_calls is of a message of {role}; only the assistant calls tools")
    if not isinstance(calls, list) or not calls:
        raise RowError(f"{where}.tool_calls must be a list of at least one call")
    for number, call in enumerate(calls):
        place = f"{where}.tool_calls[{number}]"
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(call, dict) or call.get("type") != "function" or not isinstance(function, dict):
            raise RowError(f'{place} must be {{"id": "...", "type": "function", "function": {{...}}}}')
        if not isinstance(call.get("id"), str) or not call["id"]:
            raise RowError(f"{place}.id is missing")
        name = function.get("name")
        if not isinstance(name, str) or not name:
            raise RowError(f"{place}.function.name is missing")
        if tools is not None and name not in tools:
            raise RowError(f"{place}.function.name {name[:40]!r} is not in tools; define it there")
        arguments = function.get("arguments")
        try:
            parsed = json.loads(arguments) if isinstance(arguments, str) else None
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            raise RowError(f"{place}.function.arguments must be the JSON text of an object")
        yield call["id"]


def check_tools(tools: Any) -> frozenset[str] | None:  # noqa: ANN401 - any JSON value
    """Return the names of the tools of a row; None if it defines none.

    Raises:
        RowError: A definition is wrong.
    """
    if tools is None:
        return None
    if not isinstance(tools, list) or not tools:
        raise RowError("tools must be a list of at least one definition")
    names = []
    for number, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(tool, dict) or tool.get("type") != "function" or not isinstance(function, dict):
            raise RowError(f'tools[{number}] must be {{"type": "function", "function": {{...}}}}')
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise RowError(f"tools[{number}].function.name is missing")
        if not isinstance(function.get("parameters", {}), dict):
            raise RowError(f"tools[{number}].function.parameters must be a JSON schema")
        names.append(function["name"])
    return frozenset(names) or None
