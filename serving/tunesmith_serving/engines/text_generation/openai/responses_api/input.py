"""The input of a response: a text, or items, as the messages of a chat."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tunesmith_api.contract import TEXT_PART_SEPARATOR

ROLES = ("user", "assistant", "system", "developer")
TEXT_PARTS = ("input_text", "output_text", "text")


@dataclass
class Turn:
    """A message of the chat.

    Attributes:
        role: Who says it.
        content: Its text; None of an assistant that only calls functions.
        path: The field that it comes from.
        calls: The functions that the assistant calls.
        call_id: The call that a tool answers.
    """

    role: str
    content: str | None
    path: str
    calls: list[dict[str, Any]] = field(default_factory=list)
    call_id: str | None = None

    def message(self) -> dict[str, Any]:
        """Return it as a chat has it."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.calls:
            message["tool_calls"] = self.calls
        if self.call_id is not None:
            message["tool_call_id"] = self.call_id
        return message


def read_input(value: object) -> Iterator[Turn]:
    """Yield the messages of an input. The calls that follow an assistant's message belong to it.

    Raises:
        ValueError: An item has another form than it must have, or is not supported.
    """
    if isinstance(value, str):
        yield Turn("user", value, "input")
        return
    if not isinstance(value, list) or not value:
        raise ValueError("must be a text, or a list of items that is not empty")
    last: Turn | None = None
    for index, item in enumerate(value):
        turn = _turn(item, index)
        if turn is None:
            continue
        if last is not None and last.role == "assistant" and turn.calls:
            last.calls += turn.calls
            continue
        if last is not None:
            yield last
        last = turn
    if last is None:
        raise ValueError("holds no message; add one of the user")
    yield last


def _turn(item: object, index: int) -> Turn | None:
    """Return an item as a message; None for one that the model does not read."""
    if not isinstance(item, dict):
        raise ValueError(f"[{index}] must be an object: a message, a function_call or a function_call_output")
    path = f"input[{index}]"
    kind = item.get("type", "message")
    if kind == "reasoning":
        return None
    if kind == "message":
        role = item.get("role")
        if role not in ROLES:
            raise ValueError(f"[{index}].role must be one of {', '.join(ROLES)}")
        return Turn(str(role), _text(item.get("content"), f"[{index}].content"), path)
    if kind == "function_call":
        _need(item, index, "call_id", "name", "arguments")
        function = {"name": item["name"], "arguments": item["arguments"]}
        return Turn("assistant", None, path, [{"id": item["call_id"], "type": "function", "function": function}])
    if kind == "function_call_output":
        _need(item, index, "call_id")
        return Turn("tool", _text(item.get("output"), f"[{index}].output"), path, call_id=item["call_id"])
    remedy = "send the item itself" if kind == "item_reference" else "leave it out"
    raise ValueError(
        f"[{index}] is of type {kind!r}; this server takes messages, function_call and function_call_output: {remedy}"
    )


def _need(item: dict[str, Any], index: int, *names: str) -> None:
    for name in names:
        if not isinstance(item.get(name), str):
            raise ValueError(f"[{index}].{name} must be a text")


def _text(content: object, where: str) -> str:
    """Return the text of a message's content, whose parts are joined as chat completions join them."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise ValueError(f"{where} must be a text, or a list of parts {{'type': 'input_text', 'text': '...'}}")
    texts = []
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        name = "refusal" if kind == "refusal" else "text"
        if kind not in (*TEXT_PARTS, "refusal"):
            raise ValueError(f"{where}[{number}] is of type {kind!r}; this model takes parts of type 'input_text' only")
        if not isinstance(part.get(name), str):
            raise ValueError(f"{where}[{number}].{name} must be a text")
        texts.append(part[name])
    return TEXT_PART_SEPARATOR.join(texts)
