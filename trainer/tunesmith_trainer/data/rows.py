"""What a row of any format becomes: a conversation or a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Turn(NamedTuple):
    """One turn of a conversation.

    Attributes:
        role: system, user, assistant or tool.
        content: Its text.
        learned: Whether the turn is learned (assistant's turns only, and not those in a prompt).
    """

    role: str
    content: str
    learned: bool


@dataclass(frozen=True)
class Row:
    """A checked row.

    Attributes:
        location: Where it is: `FILE:LINE` or `FILE: row N`.
        turns: The conversation; empty for a plain text.
        text: The plain text; empty for a conversation.
    """

    location: str
    turns: tuple[Turn, ...] = ()
    text: str = ""

    @property
    def texts(self) -> list[str]:
        """All that is written in the row, the roles' names included, since a chat template writes them too."""
        if not self.turns:
            return [self.text]
        return [text for turn in self.turns for text in (turn.role, turn.content)]
