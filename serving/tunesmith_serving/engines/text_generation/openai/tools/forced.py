"""An answer that its grammar makes calls: they are sent as they are generated, since none can turn out to be text."""

from __future__ import annotations

from tunesmith_serving.engines.text_generation.openai.tools.answers import CallDelta, Delta, new_id
from tunesmith_serving.engines.text_generation.openai.tools.formats.base import (
    ArgumentsReader,
    CallFormat,
)


class ForcedAnswer:
    """Reads calls whose form is certain; see `AnswerParser`.

    If the answer is cut, the last call's arguments are, as with OpenAI.
    """

    def __init__(self, format: CallFormat) -> None:
        self._format = format
        self._held = ""
        self._arguments: ArgumentsReader | None = None
        self._calls = 0

    @property
    def called(self) -> bool:
        """Whether a call has begun."""
        return self._calls > 0

    def push(self, text: str) -> list[Delta]:
        """Return what is new of the calls."""
        self._held += text
        deltas: list[Delta] = []
        while self._held:
            if self._arguments is not None:
                piece, rest = self._arguments.push(self._held)
                self._held = rest or ""
                if piece:
                    deltas.append(CallDelta(self._calls - 1, piece))
                self._arguments = self._arguments if rest is None else None
                continue
            head = self._format.head.search(self._held)
            if head is None:
                break
            deltas.append(CallDelta(self._calls, "", new_id(self._format.has_short_ids), head[1]))
            self._held = self._held[head.end() :]
            self._calls += 1
            self._arguments = self._format.arguments_reader(head[1])
        return deltas

    def finish(self) -> list[Delta]:
        """Return nothing: what is held back is no part of a call."""
        return []
