"""Tools of a row and the calls of its turns, in OpenAI's form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tunesmith_api.chat.definitions import CALL_SHAPE, TOOL_SHAPE, ToolsError, read_calls, read_tools
from tunesmith_trainer.data.errors import dataset_error, shown
from tunesmith_trainer.data.rows import Turn

EMPTY: tuple[object, ...] = (None, "", [], {}, "[]", "null")
"""Values of a column that mean that there is nothing."""


def row_tools(location: str, field: str, value: Any) -> tuple[dict[str, Any], ...]:  # noqa: ANN401 - any JSON value
    """Return the tools of a row; a list may be written as JSON text.

    Raises:
        StageError: They are not a list of functions.
    """
    if value in EMPTY:
        return ()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise dataset_error(location, f"{field} is not valid JSON: {error}", f"Write [{TOOL_SHAPE}]") from None
    try:
        return tuple(read_tools(value))
    except ToolsError as error:
        raise dataset_error(location, f"{field}{error.path} {error.problem}", error.remedy) from None


def turn_calls(location: str, field: str, role: str, message: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the tool calls of a message.

    Raises:
        StageError: They are not a list of calls, or the message is not the assistant's.
    """
    if message.get("function_call"):
        raise dataset_error(
            location,
            f"{field}.function_call is an old form of tool calls",
            f"Write tool_calls: [{CALL_SHAPE}], and the result as a turn of the role tool",
        )
    value = message.get("tool_calls")
    if value in EMPTY:
        return ()
    if role != "assistant":
        raise dataset_error(
            location,
            f"{field}.tool_calls: the turn is the {role}'s",
            "Only turns of the assistant call tools: remove it",
        )
    try:
        return tuple(read_calls(value))
    except ToolsError as error:
        raise dataset_error(location, f"{field}.tool_calls{error.path} {error.problem}", error.remedy) from None


def check_calls(location: str, field: str, turns: Sequence[Turn], tools: Sequence[dict[str, Any]]) -> None:
    """Fail if a call is of a function that the row's tools lack, or a result is of a call that no turn made.

    Raises:
        StageError: The message says which turn.
    """
    names = [tool["function"]["name"] for tool in tools]
    ids: set[str] = set()
    for number, turn in enumerate(turns, 1):
        for call in turn.calls:
            name = call["function"]["name"]
            if tools and name not in names:
                raise dataset_error(
                    location,
                    f"{field}: turn {number} calls {shown(name)}, which is not in tools ({', '.join(names)})",
                    "Add the function to tools, or correct its name",
                )
            ids.add(call.get("id", ""))
        if ids and turn.call_id and turn.call_id not in ids:
            raise dataset_error(
                location,
                f"{field}: turn {number} is the result of the call {shown(turn.call_id)}, which no turn before it made",
                "Write the id of a call in tool_call_id",
            )
