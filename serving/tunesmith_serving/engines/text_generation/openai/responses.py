"""The bodies of responses: chat and text completions, whole and as chunks of a stream."""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tunesmith_serving.engines.text_generation.batching.types import FinishReason, TokenLogprob
from tunesmith_serving.http.sse import sse_data

TokenBytes = Callable[[int], bytes]

DONE = b"data: [DONE]\n\n"
"""The event that ends a stream."""


@dataclass
class ResponseBuilder:
    """Builds the JSON of one response.

    Attributes:
        kind: Which of the two APIs was called.
        model: The model's name.
        token_bytes: UTF-8 bytes of a token, for logprobs.
        with_logprobs: Whether the request asks for log probabilities.
    """

    kind: Literal["chat", "text"]
    model: str
    token_bytes: TokenBytes
    with_logprobs: bool
    created: int = field(default_factory=lambda: int(time.time()))
    _id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _offset: int = 0

    def whole(
        self, text: str, logprobs: Sequence[TokenLogprob], reason: FinishReason, usage: dict[str, int]
    ) -> dict[str, Any]:
        """Return the response to a request that does not stream."""
        choice: dict[str, Any] = {"index": 0, "logprobs": self._logprobs(logprobs), "finish_reason": reason}
        if self.kind == "chat":
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        return {**self._envelope(chunk=False), "choices": [choice], "usage": usage}

    def role_chunk(self) -> bytes:
        """Return the first chunk of a chat's stream, which names the role."""
        return self._chunk([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])

    def chunk(self, text: str, logprobs: Sequence[TokenLogprob], reason: FinishReason | None) -> bytes:
        """Return a chunk with new text, or with the finish reason."""
        choice: dict[str, Any] = {"index": 0, "logprobs": self._logprobs(logprobs), "finish_reason": reason}
        if self.kind == "chat":
            choice["delta"] = {"content": text} if text else {}
        else:
            choice["text"] = text
        return self._chunk([choice])

    def usage_chunk(self, usage: dict[str, int]) -> bytes:
        """Return the last chunk of a stream with `stream_options.include_usage`."""
        return self._chunk([], usage)

    def _chunk(self, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> bytes:
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

    def _logprobs(self, entries: Sequence[TokenLogprob]) -> dict[str, Any] | None:
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
            offsets.append(self._offset)
            self._offset += len(token)
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


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Return `usage`; completion tokens include the end-of-sequence token."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
