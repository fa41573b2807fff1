"""Requests, events and errors of the batcher."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from tunesmith_serving.engines.text_generation.batching.constraint import ConstraintSource
from tunesmith_serving.engines.text_generation.batching.speculation.stats import SpeculationStats

FinishReason = Literal["stop", "length", "cancelled", "error"]

MAX_TOP_LOGPROBS = 20


class QueueFullError(Exception):
    """No slot is free and the queue is full."""


class DrainingError(Exception):
    """The batcher finishes its requests and accepts no new ones."""


class TooManyRequestsError(ValueError):
    """More requests are submitted together than the slots and the queue hold; they never fit."""

    def __init__(self, count: int, capacity: int) -> None:
        super().__init__(f"asks for {count} answers at once; this server takes at most {capacity}")


class InvalidRequestError(ValueError):
    """A request that the model cannot compute.

    Attributes:
        field: The part of the request that is invalid.
        index: The position of the request among those that are submitted together.
    """

    def __init__(self, message: str, field: Literal["prompt", "logit_bias"] = "prompt") -> None:
        super().__init__(message)
        self.field = field
        self.index = 0


class PromptTooLongError(InvalidRequestError):
    """The prompt leaves no room for an answer."""

    def __init__(self, prompt_tokens: int, context_length: int, wanted_context: int = 0) -> None:
        short = (
            f" (contextLength is {wanted_context}, but the server has memory for no more keys and values)"
            if wanted_context > context_length
            else ""
        )
        super().__init__(
            f"the prompt has {prompt_tokens} tokens and the context length is {context_length}{short}, "
            "of which at least one must be left for the answer"
        )
        self.prompt_tokens = prompt_tokens
        self.context_length = context_length


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is sampled and when generation ends.

    Attributes:
        max_tokens: The most tokens to generate; None for as many as fit in the context.
        temperature: 0 for greedy decoding.
        top_p: Nucleus sampling: the smallest set of tokens whose probabilities add up to this.
        top_k: Only this many of the most likely tokens are sampled; 0 for all.
        min_p: Only tokens at least this fraction as likely as the most likely one are sampled.
        presence_penalty: Subtracted from the logits of tokens that the answer contains.
        frequency_penalty: Subtracted from a token's logit for each time that the answer contains it.
        repetition_penalty: Divides the positive and multiplies the negative logits of tokens that the prompt or the
            answer contains; 1 changes nothing.
        logit_bias: Added to the logits of these tokens: `(token id, value)`.
        seed: Makes sampling repeatable; None draws a random one.
        stop: Strings that end the answer; they are not part of it.
        logprobs: Number of most likely alternatives to report for each token (0 to 20); None reports nothing.
        ignore_eos: Continue after an end-of-sequence token (for measurements).
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError("max_tokens must be at least 1")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError("temperature must be 0 or more")
        if not 0 < self.top_p <= 1:
            raise ValueError("top_p must be above 0 and at most 1")
        if self.top_k < 0:
            raise ValueError("top_k must be 0 or more")
        if not 0 <= self.min_p <= 1:
            raise ValueError("min_p must be between 0 and 1")
        if not 0 < self.repetition_penalty < float("inf"):
            raise ValueError("repetition_penalty must be above 0")
        numbers = (self.presence_penalty, self.frequency_penalty, *(value for _, value in self.logit_bias))
        if not all(map(math.isfinite, numbers)):
            raise ValueError("presence_penalty, frequency_penalty and logit_bias must be finite")
        if not all(self.stop):
            raise ValueError("a stop string must not be empty")
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_TOP_LOGPROBS:
            raise ValueError(f"logprobs must be between 0 and {MAX_TOP_LOGPROBS}")

    @property
    def changes_logits(self) -> bool:
        """Whether logits are changed before sampling, by a penalty or a bias."""
        return bool(self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1 or self.logit_bias)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token with its log probability and its most likely alternatives, best first."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """Progress of one request.

    Attributes:
        text: New text; may be empty while a character or a possible stop string is incomplete.
        token_ids: Tokens sampled since the previous event.
        logprobs: One entry for each token that `text` completes, if the request asks for them.
        finish_reason: Set on the last event of a request, and only there.
        error: What went wrong, if `finish_reason` is "error".
        cached_tokens: Prompt tokens that were not computed again; set on the first event of a request.
        by_request: Whether what went wrong is the request's own fault.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    error: str | None = None
    cached_tokens: int = 0
    by_request: bool = False


EventSink = Callable[[Event], None]


@runtime_checkable
class QuietSink(Protocol):
    """An event sink whose reader can be woken once for the events of many requests."""

    def __call__(self, event: Event) -> None:
        """Add an event and wake the reader."""

    def add(self, event: Event) -> None:
        """Add an event; `wake` is called soon after."""

    @property
    def wake(self) -> Callable[[], None]:
        """What wakes the reader; equal for sinks that have the same one."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Prompt tokens and how to continue them.

    Attributes:
        prompt_ids: The prompt.
        sampling: How tokens are chosen.
        adapter: Name of the LoRA adapter that computes the answer; None for the base alone.
        constraint: What the answer may be; None for any text.
        shown_tokens: Special tokens that are part of the answer's text, each with how it is written there.
        continues_text: Whether the answer's text is what follows the prompt's, and not a text of its own, from whose
            beginning some decoders strip a space.
    """

    prompt_ids: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    adapter: str | None = None
    constraint: ConstraintSource | None = None
    shown_tokens: tuple[tuple[int, str], ...] = ()
    continues_text: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer; `token_ids` are all sampled tokens, including an end-of-sequence token.

    `cached_tokens` are those of the prompt that were not computed again.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] = ()
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What keys and values were reused, and the memory that they take.

    Attributes:
        query_tokens: Prompt tokens of all requests that were admitted.
        hit_tokens: Those of them that the prefix cache had.
        prefix_blocks: Blocks in the prefix cache.
        prefix_bytes: Their memory.
        row_bytes: Memory of the keys and values of the running requests.
    """

    query_tokens: int
    hit_tokens: int
    prefix_blocks: int
    prefix_bytes: int
    row_bytes: int


@dataclass(frozen=True, slots=True)
class BatcherStats:
    """Token counts since the start and the current load."""

    slots: int
    slots_in_use: int
    queue_length: int
    prompt_tokens: int
    generated_tokens: int
    cache: CacheStats | None = None
    speculation: SpeculationStats | None = None

    @property
    def load(self) -> str:
        """How full the batcher is, as a clause."""
        return f"{self.slots_in_use} of {self.slots} slots are in use and {self.queue_length} requests wait"


class Ticket(Protocol):
    """A request that the batcher has accepted."""

    def cancel(self) -> None:
        """Free the slot; the last event says "cancelled". Harmless if the request has ended."""


class Batcher(Protocol):
    """The batcher as the API uses it."""

    @property
    def capacity(self) -> int:
        """The most requests that are computed or wait."""

    @property
    def context_length(self) -> int:
        """The most tokens of prompt and answer together."""

    def submit(self, request: GenerationRequest, sink: EventSink) -> Ticket:
        """Accept a request; raises what `submit_all` raises."""

    def submit_all(self, requests: Sequence[tuple[GenerationRequest, EventSink]]) -> list[Ticket]:
        """Accept all of these requests or none; each sink is called on the batcher's thread.

        Raises:
            QueueFullError: Try again later.
            TooManyRequestsError: They are more than the queue can hold.
            DrainingError: The server is shutting down.
            PromptTooLongError: A prompt does not fit in the context.
            InvalidRequestError: A prompt is empty, or a token id is not in the vocabulary.
            EngineFailedError: The worker has died.
        """

    def stats(self) -> BatcherStats:
        """Return a consistent snapshot."""
