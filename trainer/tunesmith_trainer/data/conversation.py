"""Reads and checks the turns of a conversation."""

from __future__ import annotations

import json
from typing import Any

from tunesmith_api.contract import TEXT_PART_SEPARATOR
from tunesmith_trainer.data.errors import dataset_error, shown
from tunesmith_trainer.data.lines import MAX_ROW_BYTES, too_long
from tunesmith_trainer.data.rows import Turn
from tunesmith_trainer.data.tools import turn_calls

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
}
_MEDIA = ("image", "image_url", "input_image", "audio", "input_audio", "video", "file")


def as_text(location: str, field: str, value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a field's text. A whole number or a boolean is written as text: `3`, `true`.

    Raises:
        StageError: The value is null, empty or not text, or cannot be encoded as UTF-8.
    """
    if value is None:
        raise dataset_error(location, f"{field} is null", "Write its text, or remove the row")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        value = _join_parts(location, field, value)
    if not isinstance(value, str):
        raise dataset_error(location, f"{field} is {shown(value)}, not a text", 'Write a text in quotes: "..."')
    if not value.strip():
        raise dataset_error(location, f"{field} is empty", "Write its text, or remove the row")
    if len(value) > MAX_ROW_BYTES:
        raise too_long(location)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise dataset_error(
            location,
            f"{field} has half a surrogate pair (\\u{ord(value[error.start]):04x}) at character {error.start + 1}",
            "Write the whole character, or remove it",
        ) from None
    return value


def _join_parts(location: str, field: str, parts: list[dict[str, Any]]) -> str:
    """Return the text of content given as a list of parts, `{"type": "text", "text": ...}`."""
    texts = []
    for index, part in enumerate(parts):
        if part.get("type") in _MEDIA:
            raise dataset_error(
                location,
                f"{field}[{index}] is of type {part['type']}: images and other media are not supported",
                "Write text only, or remove the row",
            )
        if part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise dataset_error(
                location,
                f"{field}[{index}] is {shown(part)}, not a part of text",
                'Write {"type": "text", "text": "..."}, or one text in quotes',
            )
        texts.append(part["text"])
    return TEXT_PART_SEPARATOR.join(texts)


def read_turns(
    location: str,
    field: str,
    value: Any,  # noqa: ANN401 - any JSON value
    *,
    role_key: str = "role",
    content_key: str = "content",
) -> list[Turn]:
    """Return the turns of a list of messages. The assistant's turns are targets.

    Args:
        location: Location of the row.
        field: Name of the column.
        value: Value of the column.
        role_key: Key of the role.
        content_key: Key of the text.

    Raises:
        StageError: The value is not a list of messages, each with a known role and text.
    """
    shape = f'Write [{{"{role_key}": "user", "{content_key}": "..."}}, ...]'
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _json_text(location, field, value)
    if not isinstance(value, list):
        problem = f"{field} is null" if value is None else f"{field} is {shown(value)}, not a list"
        raise dataset_error(location, problem, shape)
    turns = []
    for index, message in enumerate(value):
        where = f"{field}[{index}]"
        if not isinstance(message, dict):
            raise dataset_error(location, f"{where} is {shown(message)}, not an object", shape)
        for key in (role_key, content_key):
            if key not in message and not (key == content_key and message.get("tool_calls")):
                raise dataset_error(location, f"{where}.{key} is missing", shape)
        given = message[role_key]
        role = ROLES.get(given) if isinstance(given, str) else None
        if role is None:
            raise dataset_error(
                location, f"{where}.{role_key} is {shown(given)}, an unknown role", f"Write one of {', '.join(ROLES)}"
            )
        given_content = message.get(content_key)
        if role == "system" and given_content == "":
            continue
        calls = turn_calls(location, where, role, message)
        if (calls and given_content in (None, "", [])) or (role == "tool" and given_content == ""):
            content = ""
        else:
            content = as_text(location, f"{where}.{content_key}", given_content)
        target = _is_target(location, f"{where}.weight", role, message.get("weight"))
        turn = Turn(role, content, target, calls)
        if role == "tool":
            turn = turn._replace(
                call_id=_optional_text(location, f"{where}.tool_call_id", message.get("tool_call_id")),
                name=_optional_text(location, f"{where}.name", message.get("name")),
            )
        turns.append(turn)
    return turns


def _optional_text(location: str, field: str, value: object) -> str | None:
    if not isinstance(value, str | None):
        raise dataset_error(location, f"{field} is {shown(value)}, not a text", "Write a text, or leave it out")
    return value


def _json_text(location: str, field: str, text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value of a list that is written as JSON text, for example in a cell of a CSV file."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        python = "'" in text[:4]
        detail = "it is a Python list" if python else str(error)
        raise dataset_error(
            location,
            f"{field} is not valid JSON: {detail}",
            "Write it with json.dumps, not str" if python else 'Write [{"role": "user", "content": "..."}, ...]',
        ) from None


def _is_target(location: str, field: str, role: str, weight: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Return whether the loss is computed on a turn: an assistant turn whose weight is not 0."""
    if weight is None:
        return role == "assistant"
    if isinstance(weight, bool) or weight not in (0, 1):
        raise dataset_error(location, f"{field} is {shown(weight)}", "Write 1 to learn the turn, 0 to leave it out")
    if weight and role != "assistant":
        raise dataset_error(location, f"{field} is 1, but the turn is not the assistant's", "Remove it, or write 0")
    return bool(weight)


def is_messages(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Return whether a column holds messages: a list of them, or its JSON text, as in a cell of a table."""
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip().startswith('[{"role"'))


def check_conversation(location: str, field: str, turns: list[Turn]) -> tuple[Turn, ...]:
    """Return the turns of a conversation, checked.

    Raises:
        StageError: No assistant turn is a target, or the system turn is not the first.
    """
    if not turns:
        raise dataset_error(location, f"{field} is empty", "Write at least a user's and an assistant's turn")
    if len(turns) == 1 and turns[0].role == "assistant":
        raise dataset_error(
            location,
            f"{field} has only a turn of the assistant, so there is nothing that it answers",
            "Write the user's turn before it; to learn texts as they are, write format: text",
        )
    for index, turn in enumerate(turns):
        if turn.role == "system" and index > 0:
            raise dataset_error(
                location, f"{field}: the system's turn is number {index + 1}, not the first", "Move it to the front"
            )
    if not any(turn.target for turn in turns) and any(turn.role == "assistant" for turn in turns):
        raise dataset_error(
            location,
            f"{field}: no turn of the assistant is learned (weight 0, or in a prompt)",
            "Write weight: 1 at one of them, or remove the row",
        )
    if not any(turn.target for turn in turns):
        raise dataset_error(
            location,
            f"{field} has no turn of the assistant, so there is nothing to learn",
            "Add the assistant's answer, or remove the row",
        )
    return tuple(turns)
