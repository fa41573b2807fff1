"""The bodies of responses: chat and text completions, whole and as chunks of a stream."""

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tunesmith_serving.engines.text_generation.batching.types import Event, FinishReason, TokenLogprob
from tunesmith_serving.engines.text_generation.openai.tools.answers import (
    AnswerParser,
    CallDelta,
    Content,
    Delta,
    PlainAnswer,
    TextDelta,
)
from tunesmith_serving.http.sse import sse_data

TokenBytes = Callable[[int], bytes]

DONE = b"data: [DONE]\n\n"
"""The event that ends a stream."""


@dataclass
class Answer:
    """One of the answers of a response, as it grows.

    Attributes:
        parser: Reads its text.
        content: Its text and its tool calls.
        logprobs: The log probabilities of its tokens, if the request asks for them.
        finish_reason: Why it has ended.
        error: What went wrong, if `finish_reason` is "error".
        by_request: Whether that is the request's own fault.
    """

    parser: AnswerParser = field(default_factory=PlainAnswer)
    content: Content = field(default_factory=Content)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    error: str | None = None
    by_request: bool = False

    def add(self, event: Event) -> list[Delta]:
        """Add an event of its request; return what is new."""
        deltas = self.parser.push(event.text)
        if event.finish_reason in ("stop", "length"):
            deltas += self.parser.finish()
        self.content.add(deltas)
        self.logprobs.extend(event.logprobs)
        self.finish_reason, self.error, self.by_request = event.finish_reason, event.error, event.by_request
        return deltas

    def take_logprobs(self) -> list[TokenLogprob]:
        """Return the log probabilities that were not sent yet."""
        taken, self.logprobs = self.logprobs, []
        return taken

    @property
    def reason(self) -> str | None:
        """The finish reason as OpenAI names it."""
        return "tool_calls" if self.finish_reason == "stop" and self.parser.called else self.finish_reason


@dataclass
class ResponseBuilder:
    """Builds the JSON of one response.

    Attributes:
        kind: Which of the two APIs was called.
        model: The model's name.
        token_bytes: UTF-8 bytes of a token, for logprobs.
        with_logprobs: Whether the request asks for log probabilities.
        echo: The text that each answer begins with: its prompt, or nothing.
    """

    kind: Literal["chat", "text"]
    model: str
    token_bytes: TokenBytes
    with_logprobs: bool
    echo: Sequence[str] = ("",)
    created: int = field(default_factory=lambda: int(time.time()))
    _id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _offsets: dict[int, int] = field(default_factory=dict)

    def whole(self, answers: Sequence[Answer], usage: dict[str, Any]) -> dict[str, Any]:
        """Return the response to a request that does not stream."""
        choices = [self._choice(index, answer) for index, answer in enumerate(answers)]
        return {**self._envelope(chunk=False), "choices": choices, "usage": usage}

    def first_chunk(self, index: int) -> bytes:
        """Return the first chunk of an answer's stream: the role of a chat, the prompt of an echo, or nothing."""
        if self.kind == "chat":
            delta = {"role": "assistant", "content": ""}
            return self._chunk([{"index": index, "delta": delta, "finish_reason": None}])
        return self.chunk(index, self.echo[index], (), None) if self.echo[index] else b""

    def chunks(self, index: int, deltas: Iterable[Delta], logprobs: Sequence[TokenLogprob]) -> Iterable[bytes]:
        """Return the chunks with what is new of an answer; the log probabilities go with the first."""
        for delta in deltas:
            if isinstance(delta, TextDelta):
                yield self.chunk(index, delta.text, logprobs, None)
            else:
                choice = {"index": index, "delta": {"tool_calls": [_call_delta(delta)]}, "finish_reason": None}
                yield self._chunk([{**choice, "logprobs": self._logprobs(index, logprobs)}])
            logprobs = ()

    def chunk(self, index: int, text: str, logprobs: Sequence[TokenLogprob], reason: str | None) -> bytes:
        """Return a chunk with an answer's new text, or with its finish reason."""
        choice: dict[str, Any] = {
            "index": index,
            "logprobs": self._logprobs(index, logprobs),
            "finish_reason": reason,
        }
        if self.kind == "chat":
            choice["delta"] = {"content": text} if text else {}
        else:
            choice["text"] = text
        return self._chunk([choice])

    def usage_chunk(self, usage: dict[str, Any]) -> bytes:
        """Return the last chunk of a stream with `stream_options.include_usage`."""
        return self._chunk([], usage)

    def _choice(self, index: int, answer: Answer) -> dict[str, Any]:
        return {
            "index": index,
            "logprobs": self._logprobs(index, answer.logprobs),
            "finish_reason": answer.reason,
            **(
                {"message": _message(answer.content)}
                if self.kind == "chat"
                else {"text": self.echo[index] + answer.content.text}
            ),
        }

    def _chunk(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        body = {**self._envelope(chunk=True), "choices": choices}
        if usage is not None:
            body["usage"] = usage
        return sse_data(body)

    def _envelope(self, chunk: bool) -> dict[str, Any]:
        if self.kind == "chat":
            kind, prefix = "chat.completion.chunk" if chunk else "chat.completion", "chatcmpl"
        else:
            kind, prefix = "text_completion", "cmpl"
        return {"id": f"{prefix}-{self._id}", "object": kind, "created": self.created, "model": self.model}

    def _logprobs(self, index: int, entries: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if not self.with_logprobs:
            return None
        if self.kind == "chat":
            return {"content": chat_logprobs(entries, self.token_bytes), "refusal": None}
        tokens = [self._text(entry.token_id) for entry in entries]
        offsets = []
        for token in tokens:
            offsets.append(self._offsets.get(index, 0))
            self._offsets[index] = offsets[-1] + len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [entry.logprob for entry in entries],
            "top_logprobs": [{self._text(token): value for token, value in entry.top} for entry in entries],
            "text_offset": offsets,
        }

    def _text(self, token_id: int) -> str:
        return self.token_bytes(token_id).decode(errors="replace")


def chat_logprobs(entries: Sequence[TokenLogprob], token_bytes: TokenBytes) -> list[dict[str, Any]]:
    """Return the log probabilities of tokens as chats and responses have them."""

    def token(token_id: int, logprob: float) -> dict[str, Any]:
        raw = token_bytes(token_id)
        return {"token": raw.decode(errors="replace"), "bytes": list(raw), "logprob": max(logprob, -9999.0)}

    return [
        {**token(entry.token_id, entry.logprob), "top_logprobs": [token(index, value) for index, value in entry.top]}
        for entry in entries
    ]


def _message(content: Content) -> dict[str, Any]:
    """Return the assistant's message."""
    if not content.calls:
        return {"role": "assistant", "content": content.text, "refusal": None}
    calls = [
        {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
        for call in content.calls
    ]
    return {"role": "assistant", "content": content.text or None, "refusal": None, "tool_calls": calls}


def _call_delta(delta: CallDelta) -> dict[str, Any]:
    if delta.id is None:
        return {"index": delta.index, "function": {"arguments": delta.arguments}}
    function = {"name": delta.name, "arguments": delta.arguments}
    return {"index": delta.index, "id": delta.id, "type": "function", "function": function}


def usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> dict[str, Any]:
    """Return `usage`; completion tokens include the end-of-sequence token, cached ones were not computed again."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }
