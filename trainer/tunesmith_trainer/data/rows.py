"""A parsed row of any format. Tasks other than text generation have rows of their own, which are subclasses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from tunesmith_api.chat.definitions import as_openai


class Turn(NamedTuple):
    """One turn of a conversation.

    Attributes:
        role: system, user, assistant or tool.
        content: Its text.
        target: Whether the loss is computed on the turn. Only assistant turns are targets, and not those in a prompt.
        calls: The assistant's tool calls, as chat templates get them.
        call_id: Of a tool's turn, the call whose result it is.
        name: Of a tool's turn, the function.
    """

    role: str
    content: str
    target: bool
    calls: tuple[dict[str, Any], ...] = ()
    call_id: str | None = None
    name: str | None = None

    @property
    def text(self) -> str:
        """Its text, and its calls as JSON."""
        return self.content + "".join(as_json(call["function"]) for call in self.calls)

    @property
    def message(self) -> dict[str, Any]:
        """The turn as chat templates get it."""
        return {
            "role": self.role,
            "content": self.content,
            **({"tool_calls": list(self.calls)} if self.calls else {}),
            **({"tool_call_id": self.call_id} if self.call_id is not None else {}),
            **({"name": self.name} if self.name is not None else {}),
        }

    @property
    def request(self) -> dict[str, Any]:
        """The turn as a message of a request."""
        message = self.message
        return {**message, "tool_calls": list(map(as_openai, self.calls))} if self.calls else message


@dataclass(frozen=True)
class Row:
    """A checked row: of text generation, a conversation or a text.

    Attributes:
        location: `FILE:LINE` or `FILE: row N`.
        turns: The conversation; empty for plain text.
        text: The plain text; empty for a conversation.
        tools: The functions that the assistant may call.
    """

    location: str
    turns: tuple[Turn, ...] = ()
    text: str = ""
    tools: tuple[dict[str, Any], ...] = ()

    @property
    def texts(self) -> list[str]:
        """All texts of the row, role names included, because a chat template renders them too."""
        if not self.turns:
            return [self.text]
        return [*map(as_json, self.tools), *(text for turn in self.turns for text in (turn.role, turn.text))]

    @property
    def question(self) -> list[str]:
        """What is asked: the beginning of `texts`. Rows that ask the same and differ contradict each other."""
        last = max((index for index, turn in enumerate(self.turns) if turn.target), default=0)
        return self.texts[: len(self.tools) + 2 * last] if self.turns else []

    @property
    def learned(self) -> str:
        """What is learned besides the tokens, for people: the labels of a row. Empty where the tokens are learned."""
        return ""

    @property
    def characters(self) -> int:
        """Number of characters that are tokenised."""
        return sum(map(len, [*map(as_json, self.tools), *(turn.text for turn in self.turns)] or self.texts))


def as_json(value: object) -> str:
    """Return a value as JSON text, as chat templates write it."""
    return json.dumps(value, ensure_ascii=False)
