"""A parsed row of any format. Tasks other than text generation have rows of their own, which are subclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Turn(NamedTuple):
    """One turn of a conversation.

    Attributes:
        role: system, user, assistant or tool.
        content: Its text.
        target: Whether the loss is computed on the turn. Only assistant turns are targets, and not those in a prompt.
    """

    role: str
    content: str
    target: bool


@dataclass(frozen=True)
class Row:
    """A checked row: of text generation, a conversation or a text.

    Attributes:
        location: `FILE:LINE` or `FILE: row N`.
        turns: The conversation; empty for plain text.
        text: The plain text; empty for a conversation.
    """

    location: str
    turns: tuple[Turn, ...] = ()
    text: str = ""

    @property
    def texts(self) -> list[str]:
        """All texts of the row, role names included, because a chat template renders them too."""
        if not self.turns:
            return [self.text]
        return [text for turn in self.turns for text in (turn.role, turn.content)]

    @property
    def question(self) -> list[str]:
        """What is asked: the beginning of `texts`. Rows that ask the same and differ contradict each other."""
        last = max((index for index, turn in enumerate(self.turns) if turn.target), default=0)
        return self.texts[: 2 * last] if self.turns else []

    @property
    def learned(self) -> str:
        """What is learned besides the tokens, for people: the labels of a row. Empty where the tokens are learned."""
        return ""

    @property
    def characters(self) -> int:
        """Number of characters that are tokenised."""
        return sum(map(len, [turn.content for turn in self.turns] or self.texts))
