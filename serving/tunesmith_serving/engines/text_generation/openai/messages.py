"""The messages of a conversation, checked field by field."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from tunesmith_api.contract import TEXT_PART_SEPARATOR

Role = Literal["system", "developer", "user", "assistant", "tool"]

# Fields of a message that change nothing: no chat template gets them, neither in training nor in serving.
IGNORED = frozenset({"name", "refusal", "annotations", "tool_call_id", "id", "provider_specific_fields"})


class Message(BaseModel):
    """One turn of a conversation; its content is text."""

    model_config = ConfigDict(strict=True, extra="forbid")

    role: Role
    # Before the content: a message with tool calls has none, and the error must name the tool calls.
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None
    content: str

    @model_validator(mode="before")
    @classmethod
    def _drop_fields_without_effect(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        return {
            key: value for key, value in data.items() if key == "content" or (value is not None and key not in IGNORED)
        }

    @field_validator("tool_calls", "function_call", "audio")
    @classmethod
    def _refuse(cls, value: object) -> object:
        if value:
            raise ValueError("this model only takes text; put what it should know in content, or remove the message")
        return value

    @field_validator("content", mode="before")
    @classmethod
    def _join_text_parts(cls, value: object) -> object:
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


def conversation(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Return the messages for the chat template, as training renders them.

    `developer` is the newer name of `system`, and an empty system turn is left out.
    """
    turns = [("system" if message.role == "developer" else message.role, message.content) for message in messages]
    return [{"role": role, "content": content} for role, content in turns if role != "system" or content]
