"""An answer that its grammar makes calls: they are sent as they are generated, since none can turn out to be text."""

from __future__ import annotations

from tunesmith_serving.engines.text_generation.openai.tools.answers import CallDelta, Delta, new_id
from tunesmith_serving.engines.text_generation.openai.tools.formats.base import CallFormat


class _ObjectEnd:
    """Finds where a JSON object ends that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def find(self, piece: str) -> int | None:
        """Return where in the next piece the object ends; None if it goes on."""
        for place, character in enumerate(piece):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = character == "\\"
                self._in_string = character != '"'
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if not self._depth:
                    return place + 1
        return None


class ForcedAnswer:
    """Reads calls whose form is certain; see `AnswerParser`.

    If the answer is cut, the last call's arguments are, as with OpenAI.
    """

    def __init__(self, format: CallFormat) -> None:
        self._format = format
        self._held = ""
        self._arguments: _ObjectEnd | None = None
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
                end = self._arguments.find(self._held)
                piece, self._held = self._held[:end], self._held[len(self._held) if end is None else end :]
                deltas.append(CallDelta(self._calls - 1, piece))
                self._arguments = self._arguments if end is None else None
                continue
            head = self._format.head.search(self._held)
            if head is None:
                break
            deltas.append(CallDelta(self._calls, "", new_id(self._format.has_short_ids), head[1]))
            self._held = self._held[head.end() :]
            self._calls += 1
            self._arguments = _ObjectEnd()
        return deltas

    def finish(self) -> list[Delta]:
        """Return nothing: what is held back is no part of a call."""
        return []
