"""The bodies of responses: chat and text completions, whole and as chunks of a stream."""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tunesmith_serving.engines.text_generation.batching.types import Event, FinishReason, TokenLogprob
from tunesmith_serving.http.sse import sse_data

TokenBytes = Callable[[int], bytes]

DONE = b"data: [DONE]\n\n"
"""The event that ends a stream."""


@dataclass
class Answer:
    """One of the answers of a response, as it grows.

    Attributes:
        text: The pieces of its text.
        logprobs: The log probabilities of its tokens, if the request asks for them.
        finish_reason: Why it has ended.
        error: What went wrong, if `finish_reason` is "error".
    """

    text: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    error: str | None = None

    def add(self, event: Event) -> None:
        """Add an event of its request."""
        self.text.append(event.text)
        self.logprobs.extend(event.logprobs)
        self.finish_reason, self.error = event.finish_reason, event.error


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

    def chunk(self, index: int, text: str, logprobs: Sequence[TokenLogprob], reason: FinishReason | None) -> bytes:
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
        text = self.echo[index] + "".join(answer.text)
        return {
            "index": index,
            "logprobs": self._logprobs(index, answer.logprobs),
            "finish_reason": answer.finish_reason,
            **(
                {"message": {"role": "assistant", "content": text, "refusal": None}}
                if self.kind == "chat"
                else {"text": text}
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
            content = [
                {
                    **self._token(entry.token_id, entry.logprob),
                    "top_logprobs": [self._token(token, value) for token, value in entry.top],
                }
                for entry in entries
            ]
            return {"content": content, "refusal": None}
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

    def _token(self, token_id: int, logprob: float) -> dict[str, Any]:
        raw = self.token_bytes(token_id)
        return {"token": raw.decode(errors="replace"), "bytes": list(raw), "logprob": max(logprob, -9999.0)}

    def _text(self, token_id: int) -> str:
        return self.token_bytes(token_id).decode(errors="replace")


def usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> dict[str, Any]:
    """Return `usage`; completion tokens include the end-of-sequence token, cached ones were not computed again."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }
