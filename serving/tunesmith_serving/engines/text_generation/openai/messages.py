"""The messages of a conversation, checked field by field."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from tunesmith_api.chat.definitions import ToolsError, read_calls
from tunesmith_api.contract import TEXT_PART_SEPARATOR

Role = Literal["system", "developer", "user", "assistant", "tool"]

# Fields of a message that change nothing: no chat template gets them, neither in training nor in serving.
# `parsed` is what OpenAI's clients make of an answer by its schema, and send back with it.
IGNORED = frozenset({"refusal", "annotations", "id", "provider_specific_fields", "parsed"})
# Fields that mean something in the result of a tool only.
OF_RESULTS = frozenset({"name", "tool_call_id"})


class Message(BaseModel):
    """One turn of a conversation; its content is text, its tool calls are as chat templates get them."""

    model_config = ConfigDict(strict=True, extra="forbid")

    role: Role
    # Before the content, which a message with tool calls need not have.
    tool_calls: tuple[dict[str, Any], ...] = ()
    function_call: Any = None
    audio: Any = None
    tool_call_id: str | None = None
    name: str | None = None
    content: str

    @model_validator(mode="before")
    @classmethod
    def _drop_fields_without_effect(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        ignored = IGNORED if data.get("role") == "tool" else IGNORED | OF_RESULTS
        known = {
            key: value for key, value in data.items() if key == "content" or (value is not None and key not in ignored)
        }
        if known.get("tool_calls"):
            known.setdefault("content", None)
        return known

    @field_validator("tool_calls", mode="before")
    @classmethod
    def _read_calls(cls, value: object, info: Any) -> tuple[dict[str, Any], ...]:  # noqa: ANN401
        if value == []:
            return ()
        if info.data.get("role") not in (None, "assistant"):
            raise ValueError("only messages of the assistant have tool calls; leave it out")
        try:
            return tuple(read_calls(value))
        except ToolsError as error:
            raise ValueError(explain(error)) from None

    @field_validator("function_call")
    @classmethod
    def _refuse_function_call(cls, value: object) -> object:
        if value:
            raise ValueError(
                'write tool_calls: [{"id": "...", "type": "function", "function": {...}}] with the same object, and '
                'the result as a message {"role": "tool", "tool_call_id": "...", "content": "..."}'
            )
        return value

    @field_validator("audio")
    @classmethod
    def _refuse_audio(cls, value: object) -> object:
        if value:
            raise ValueError("this model only takes text; put what it should know in content, or remove the message")
        return value

    @field_validator("content", mode="before")
    @classmethod
    def _join_text_parts(cls, value: object, info: Any) -> object:  # noqa: ANN401
        if value is None and info.data.get("tool_calls", True):
            return ""
        if value is None:
            raise ValueError("must be text, not null")
        if not isinstance(value, list):
            return value
        if not value:
            raise ValueError("must be text, or at least one part {'type': 'text', 'text': '...'}")
        texts = []
        for index, part in enumerate(value):
            kind = part.get("type") if isinstance(part, dict) else None
            if kind != "text":
                raise ValueError(f"part {index} is of type {kind!r}; this model takes parts of type 'text' only")
            if not isinstance(part.get("text"), str):
                raise ValueError(f"part {index} must be {{'type': 'text', 'text': '...'}}")
            texts.append(part["text"])
        return TEXT_PART_SEPARATOR.join(texts)


def conversation(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the messages for the chat template, as training renders them.

    `developer` is the newer name of `system`, and an empty system turn is left out.
    """
    turns = [_turn(message) for message in messages]
    return [turn for turn in turns if turn["role"] != "system" or turn["content"]]


def _turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": message.content,
    }
    if message.tool_calls:
        turn["tool_calls"] = list(message.tool_calls)
    for key in OF_RESULTS:
        if (value := getattr(message, key)) is not None:
            turn[key] = value
    return turn


def explain(error: ToolsError) -> str:
    """Return an error of tools or calls for a message that begins with the name of their field."""
    where = f"{error.path} " if error.path else ""
    return f"{where}{error.problem}. {error.remedy}"
