"""An answer as clients get it: text and tool calls, in pieces as they become certain.

This is what both of OpenAI's APIs build their answers on. Feed an `AnswerParser` the text of an answer's events; it
returns what is new of the text and of the calls. The deltas together are the same however the text is cut.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tunesmith_serving.engines.text_generation.openai.tools.formats.base import Call, CallFormat


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New text of an answer."""

    text: str


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A new call, or more of its arguments.

    Attributes:
        index: Which of the answer's calls, from 0.
        arguments: New text of the arguments.
        id: The call's id, on its first delta only.
        name: The function, on the call's first delta only.
    """

    index: int
    arguments: str
    id: str | None = None
    name: str | None = None


Delta = TextDelta | CallDelta


class AnswerParser(Protocol):
    """Reads one answer."""

    @property
    def called(self) -> bool:
        """Whether it has calls."""

    def push(self, text: str) -> list[Delta]:
        """Return what has become certain with more text of the answer."""

    def finish(self) -> list[Delta]:
        """Return the rest, when the answer has ended."""


@dataclass
class Content:
    """A whole answer.

    Attributes:
        text: Its text.
        calls: Its calls, with `id`, `name` and `arguments`.
    """

    text: str = ""
    calls: list[dict[str, str]] = field(default_factory=list)

    def add(self, deltas: Iterable[Delta]) -> None:
        """Add what is new."""
        for delta in deltas:
            if isinstance(delta, TextDelta):
                self.text += delta.text
            elif delta.id is not None:
                self.calls.append({"id": delta.id, "name": delta.name or "", "arguments": delta.arguments})
            else:
                self.calls[delta.index]["arguments"] += delta.arguments


class PlainAnswer:
    """An answer that is text only."""

    @property
    def called(self) -> bool:
        """It never has calls."""
        return False

    def push(self, text: str) -> list[Delta]:
        """Return the text."""
        return [TextDelta(text)] if text else []

    def finish(self) -> list[Delta]:
        """Return nothing: no text is held back."""
        return []


class ToolAnswer:
    """An answer that may call tools. What is not a valid call of one of them stays text.

    White space around calls is left out, because chat templates write their own.
    """

    def __init__(self, format: CallFormat, names: Iterable[str], limit: int | None, hidden: Iterable[str]) -> None:
        """Take what may be called.

        Args:
            format: The form in which the model writes calls.
            names: The functions.
            limit: The most calls; what follows them is left out.
            hidden: Markers that are special tokens, which are never text of the answer.
        """
        self._format = format
        self._names = frozenset(names)
        self._limit = limit
        self._hidden = tuple(hidden)
        self._held = ""  # text that is not decided
        self._space = ""  # white space that is text only if more text follows
        self._at_start = True
        self._calls = 0

    @property
    def called(self) -> bool:
        """Whether a tool was called."""
        return self._calls > 0

    def push(self, text: str) -> list[Delta]:
        """Return what has become certain with more text of the answer."""
        self._held += text
        return _merged(self._read(is_whole=False))

    def finish(self) -> list[Delta]:
        """Return the rest, when the answer has ended."""
        deltas = self._read(is_whole=True)
        if self._space and not self._calls:
            deltas.append(TextDelta(self._space))
        self._space = ""
        return _merged(deltas)

    def _read(self, is_whole: bool) -> list[Delta]:
        deltas: list[Delta] = []
        while self._held and self._calls != self._limit:
            place = self._format.begin(self._held, self._at_start)
            if place:
                deltas += self._text(self._held[:place])
                self._held = self._held[place:]
                continue
            found = self._format.read(self._held, is_whole)
            if found is None:
                return deltas
            raw, self._held = self._held[: found.length], self._held[found.length :]
            if found.calls and all(call.name in self._names for call in found.calls):
                deltas += self._take(found.calls)
            else:
                deltas += self._text(raw)
        if self._calls == self._limit:
            self._held = ""
        return deltas

    def _take(self, calls: Iterable[Call]) -> list[Delta]:
        self._space, self._at_start = "", True
        deltas: list[Delta] = []
        for call in calls:
            if self._calls != self._limit:
                first = CallDelta(self._calls, "", new_id(self._format.has_short_ids), call.name)
                deltas += [first, CallDelta(self._calls, _json(call.arguments))]
                self._calls += 1
        return deltas

    def _text(self, text: str) -> list[Delta]:
        for marker in self._hidden:
            text = text.replace(marker, "")
        if self._at_start and self._calls:
            text = text.lstrip(self._format.separators)
        elif self._at_start and not text.strip():
            self._space += text
            return []
        text = self._space + text
        kept = text.rstrip()
        self._space = text[len(kept) :]
        if not kept:
            return []
        self._at_start = False
        return [TextDelta(kept)]


def _merged(deltas: list[Delta]) -> list[Delta]:
    """Return the deltas with those of text joined that follow each other."""
    merged: list[Delta] = []
    for delta in deltas:
        if merged and isinstance(delta, TextDelta) and isinstance(before := merged[-1], TextDelta):
            merged[-1] = TextDelta(before.text + delta.text)
        else:
            merged.append(delta)
    return merged


def new_id(is_short: bool) -> str:
    """Return an id for a call; Mistral's are short."""
    return secrets.token_hex(5)[:9] if is_short else f"call_{secrets.token_hex(12)}"


def _json(arguments: dict[str, Any]) -> str:
    text = json.dumps(arguments, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, which only an escape can write
        return json.dumps(arguments)
    return text
