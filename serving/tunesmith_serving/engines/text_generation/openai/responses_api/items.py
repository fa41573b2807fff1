"""The output of a response: its items, and the events by which a stream builds them."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tunesmith_serving.engines.text_generation.batching.types import TokenLogprob
from tunesmith_serving.engines.text_generation.openai.tools.answers import CallDelta, Delta, TextDelta

Event = dict[str, Any]
WriteLogprobs = Callable[[Sequence[TokenLogprob]], list[dict[str, Any]]]


class OutputItems:
    """The items of one response, as they grow: messages with text, and calls of functions.

    Attributes:
        items: The items.
    """

    def __init__(self, write_logprobs: WriteLogprobs) -> None:
        self.items: list[dict[str, Any]] = []
        self._write_logprobs = write_logprobs
        self._is_open = False

    def add(self, deltas: Iterable[Delta], logprobs: Sequence[TokenLogprob]) -> list[Event]:
        """Add what is new of an answer; return the events that say so.

        Args:
            deltas: New text and calls.
            logprobs: The log probabilities of the text's tokens; empty if they are not asked for.
        """
        events: list[Event] = []
        for delta in deltas:
            if isinstance(delta, TextDelta):
                events += self._add_text(delta.text, logprobs)
                logprobs = ()
            else:
                events += self._add_call(delta)
        return events

    def finish(self, is_whole: bool, logprobs: Sequence[TokenLogprob] = ()) -> list[Event]:
        """End the last item; a response without any has a message without text.

        Args:
            is_whole: Whether the answer has ended by itself, and was not cut.
            logprobs: Those of the last tokens, which added no text.
        """
        events = [] if self.items else self._open_message()
        if self._is_open and self.items[-1]["type"] == "message":
            self.items[-1]["content"][0]["logprobs"] += self._write_logprobs(logprobs)
        return events + self._close("completed" if is_whole else "incomplete")

    def _add_text(self, text: str, logprobs: Sequence[TokenLogprob]) -> list[Event]:
        events: list[Event] = []
        if not self._is_open or self.items[-1]["type"] != "message":
            events += self._close("completed") + self._open_message()
        written = self._write_logprobs(logprobs)
        part = self.items[-1]["content"][0]
        part["text"] += text
        part["logprobs"] += written
        return [*events, {**self._place("response.output_text.delta"), "delta": text, "logprobs": written}]

    def _add_call(self, delta: CallDelta) -> list[Event]:
        events: list[Event] = []
        if delta.id is not None:
            call = {"type": "function_call", "id": _id("fc"), "call_id": delta.id, "name": delta.name, "arguments": ""}
            events += self._close("completed") + self._open(call)
        if delta.arguments:
            self.items[-1]["arguments"] += delta.arguments
            place = self._place("response.function_call_arguments.delta")
            events.append({**place, "delta": delta.arguments})
        return events

    def _open(self, item: dict[str, Any]) -> list[Event]:
        self.items.append({**item, "status": "in_progress"})
        self._is_open = True
        return [_added("response.output_item.added", len(self.items) - 1, self.items[-1])]

    def _open_message(self) -> list[Event]:
        events = self._open({"type": "message", "id": _id("msg"), "role": "assistant", "content": []})
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self.items[-1]["content"].append(part)
        return [*events, {**self._place("response.content_part.added"), "part": _copy(part)}]

    def _close(self, status: str) -> list[Event]:
        if not self._is_open:
            return []
        self._is_open = False
        item = self.items[-1]
        item["status"] = status
        if item["type"] == "message":
            part = item["content"][0]
            done = {**self._place("response.output_text.done"), "text": part["text"], "logprobs": part["logprobs"]}
            events = [done, {**self._place("response.content_part.done"), "part": _copy(part)}]
        else:
            place = self._place("response.function_call_arguments.done")
            events = [{**place, "name": item["name"], "arguments": item["arguments"]}]
        return [*events, _added("response.output_item.done", len(self.items) - 1, item)]

    def _place(self, kind: str) -> Event:
        """Return the beginning of an event about the last item."""
        item = self.items[-1]
        place = {"type": kind, "item_id": item["id"], "output_index": len(self.items) - 1}
        return {**place, "content_index": 0} if item["type"] == "message" else place


def _added(kind: str, index: int, item: dict[str, Any]) -> Event:
    return {"type": kind, "output_index": index, "item": _copy(item)}


def _copy(value: dict[str, Any]) -> dict[str, Any]:
    """Return an item or a part as it is now; it grows on."""
    copy = dict(value)
    for key in ("content", "logprobs"):
        if isinstance(copy.get(key), list):
            copy[key] = [dict(entry) for entry in copy[key]]
    return copy


def _id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"
