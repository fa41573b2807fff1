"""What a chat template gets: the messages and tools of a conversation, as the template expects them.

transformers' `apply_chat_template` passes both as they are. Some templates expect more: Phi-4-mini the tools as text in
the system's message, Mistral ids of nine letters and digits, DeepSeek arguments as text. Training and the server both
go through here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith_api.chat.styles import (
    ToolStyle,
    calls_as_text,
    takes_arguments_as_text,
    takes_tools,
    tool_style,
    tools_in_message,
    writes_calls,
)

Messages = list[dict[str, Any]]

_SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")


class UnsupportedToolsError(ValueError):
    """The chat template has no place for tools or their calls."""


def template_inputs(
    template: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
) -> tuple[Messages, list[dict[str, Any]] | None]:
    """Return `messages` and `tools` for the chat template.

    Args:
        template: The template's text.
        messages: The turns, `role` and `content` each; with `tool_calls` as `read_calls` makes them, and the results of
            tools with `tool_call_id` and `name`.
        tools: The tools, as `read_tools` makes them.

    Raises:
        UnsupportedToolsError: The template says nothing of tools, or leaves out the calls of a message.
    """
    turns = [dict(message) for message in messages]
    if not tools and not any("tool_calls" in turn or turn["role"] == "tool" for turn in turns):
        return turns, None
    _name_results(turns)
    style = tool_style(template)
    if "tool_call.id|length" in template.replace(" ", ""):
        _shorten_ids(turns)
    if not writes_calls(template):
        _write_calls(turns, style)
    elif takes_arguments_as_text(template):
        _write_arguments(turns)
    if not tools:
        return turns, None
    if not takes_tools(template):
        raise UnsupportedToolsError("the model's chat template says nothing of tools")
    if tools_in_message(template):
        return _with_tools_as_text(turns, tools), None
    return turns, [{**tool, "function": _described(tool)} for tool in tools]


def _described(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a function as models are told of it: `strict` is for the server."""
    return {key: value for key, value in tool["function"].items() if key != "strict"}


def _name_results(turns: Messages) -> None:
    """Give each result of a tool the name of its function, which some templates write."""
    names: dict[str, str] = {}
    for turn in turns:
        for call in turn.get("tool_calls", ()):
            if "id" in call:
                names[call["id"]] = call["function"]["name"]
        if turn["role"] == "tool" and "name" not in turn and turn.get("tool_call_id") in names:
            turn["name"] = names[turn["tool_call_id"]]


def _shorten_ids(turns: Messages) -> None:
    """Replace ids that are not nine letters and digits, which Mistral's templates refuse."""
    for number, turn in enumerate(turns):
        if "tool_calls" in turn:
            turn["tool_calls"] = [
                {**call, "id": _short(call.get("id", f"{number} {index}"))}
                for index, call in enumerate(turn["tool_calls"])
            ]
        if "tool_call_id" in turn:
            turn["tool_call_id"] = _short(turn["tool_call_id"])


def _short(given: str) -> str:
    return given if _SHORT_ID.fullmatch(given) else hashlib.sha256(given.encode(errors="surrogatepass")).hexdigest()[:9]


def _write_arguments(turns: Messages) -> None:
    """Write the arguments of calls as JSON text, for a template that joins them with other text."""
    for turn in turns:
        if "tool_calls" in turn:
            functions = [call["function"] for call in turn["tool_calls"]]
            texts = [json.dumps(function["arguments"], ensure_ascii=False) for function in functions]
            turn["tool_calls"] = [
                {**call, "function": {**call["function"], "arguments": text}}
                for call, text in zip(turn["tool_calls"], texts, strict=True)
            ]


def _write_calls(turns: Messages, style: ToolStyle | None) -> None:
    """Write calls into the content of their message, for a template that leaves them out."""
    for turn in turns:
        calls = turn.pop("tool_calls", None)
        if not calls:
            continue
        if style is None:
            raise UnsupportedToolsError("the model's chat template leaves out the tool calls of a message")
        turn["content"] += calls_as_text(style, calls)


def _with_tools_as_text(turns: Messages, tools: Sequence[Mapping[str, Any]]) -> Messages:
    """Return the messages with the functions as JSON text in the system's message, which is added if there is none."""
    if not turns or turns[0]["role"] != "system":
        turns = [{"role": "system", "content": ""}, *turns]
    turns[0]["tools"] = json.dumps([_described(tool) for tool in tools], ensure_ascii=False)
    return turns
