"""What a server serves, and whether it is ready to."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tunesmith_serving.engine.types import GenerationEngine


class TextEncoder(Protocol):
    """What the server needs of a tokenizer."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """Token ids of a text."""

    def token_bytes(self, token_id: int) -> bytes:
        """UTF-8 bytes of a token."""


class Template(Protocol):
    """What the server needs of a chat template."""

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The prompt of a conversation."""


@dataclass(frozen=True)
class ServedModel:
    """A model under the name that requests give."""

    name: str
    engine: GenerationEngine
    tokenizer: TextEncoder
    template: Template | None
    created: int = field(default_factory=lambda: int(time.time()))


@dataclass
class ServerState:
    """Changes over the life of a server.

    Attributes:
        ready: A warm-up generation has succeeded.
        leaving: A signal has asked the server to go; whoever sends requests should learn it.
        draining: Nothing new is taken any more.
        open_requests: Requests of /v1 that are being answered.
        mean_seconds: Moving average of how long a request takes.
    """

    ready: bool = False
    leaving: bool = False
    draining: bool = False
    open_requests: int = 0
    mean_seconds: float = 1.0

    def finished(self, seconds: float) -> None:
        """Take a finished request into the average."""
        self.mean_seconds += 0.1 * (seconds - self.mean_seconds)

    def retry_after(self, queue_length: int, slots: int) -> int:
        """Whole seconds after which the queue should have room again (1 to 60)."""
        return max(1, min(60, math.ceil(self.mean_seconds * max(1, queue_length) / slots / 2)))
