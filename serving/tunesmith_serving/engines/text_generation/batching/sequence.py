"""The state of one request in the batcher: its tokens, random generator, text and end."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tunesmith_serving.engines.text_generation.adapters.weights import Adapter
from tunesmith_serving.engines.text_generation.batching.adjust import LogitsAdjuster
from tunesmith_serving.engines.text_generation.batching.constraint import Constraint, ConstraintError
from tunesmith_serving.engines.text_generation.batching.sampling import (
    Row,
    UniformStream,
    is_greedy,
    sample,
    token_logprob,
)
from tunesmith_serving.engines.text_generation.batching.types import (
    Event,
    EventSink,
    FinishReason,
    GenerationRequest,
    InvalidRequestError,
    PromptTooLongError,
    QuietSink,
    TokenLogprob,
)
from tunesmith_serving.engines.text_generation.text.stream import (
    CONTEXT_TOKENS,
    Decoder,
    IncrementalDetokenizer,
    StopMatcher,
    show_tokens,
)


class Sequence:
    """State of one request; also the ticket its submitter holds.

    Attributes:
        prompt: Prompt tokens, shape [prompt tokens].
        outbox: Events that `accept` made and `flush` has not delivered yet.
        filled: Number of tokens whose keys and values are in the slot.
        last_token: The input of the next step.
        params: How tokens are chosen.
        uniforms: The random numbers that choose them.
        answer: The tokens sampled so far.
        most_tokens: The most tokens that prompt and answer can come to.
        adapter: What computes it besides the base; it is kept until the request ends.
        cached: Prompt tokens that were not computed again; the first event says so.
        cancelled: Set by the submitter; the worker ends the request at its next step.
    """

    def __init__(
        self,
        request: GenerationRequest,
        sink: EventSink,
        decoder: Decoder,
        stop_token_ids: frozenset[int],
        context_length: int,
        on_cancel: Callable[["Sequence"], None],
    ) -> None:
        self.prompt = np.asarray(request.prompt_ids, np.int64)
        self.filled = 0
        self.last_token = -1
        self.answer: list[int] = []
        self.adapter: Adapter | None = None
        self.cached = 0
        self.cancelled = False
        self.outbox: list[Event] = []
        params = request.sampling
        self._adjust = LogitsAdjuster(params, request.prompt_ids) if params.changes_logits else None
        self.takes_likeliest = is_greedy(params)
        self.params = params
        self.uniforms = UniformStream(params.seed)
        self._constraint = request.constraint.start() if request.constraint is not None else None
        self._sink = sink
        self._stop_token_ids = frozenset() if request.sampling.ignore_eos else stop_token_ids
        self._on_cancel = on_cancel
        room = context_length - len(self.prompt)
        self._budget = min(room, request.sampling.max_tokens or room)
        self.most_tokens = len(self.prompt) + self._budget
        self._generated = 0
        before = request.prompt_ids[-CONTEXT_TOKENS:] if request.continues_text else ()
        self._text = IncrementalDetokenizer(show_tokens(decoder, request.shown_tokens), before)
        self._stop = StopMatcher(request.sampling.stop)
        self._held_logprobs: list[TokenLogprob] = []
        self._held_tokens: list[int] = []

    @property
    def independent(self) -> bool:
        """Whether a token is chosen from its logits alone, without those before it in the answer."""
        return self._adjust is None and self._constraint is None

    def restrict(self, logits: Row) -> bool:
        """Leave the tokens that may come next in logits of shape [vocabulary], in place.

        Returns:
            Whether the next token can be chosen from these logits alone. If not, `accept` chooses it.
        """
        if self._constraint is None or self._adjust is not None or self.params.logprobs is not None:
            return self.independent  # log probabilities are of the logits as they were
        try:
            self._constraint.allow(logits)
        except ConstraintError:  # accept says so
            return False
        return True

    @property
    def room(self) -> int:
        """The most tokens that may still be generated."""
        return self._budget - self._generated

    @property
    def tokens(self) -> npt.NDArray[np.int64]:
        """Prompt and answer, shape [tokens]."""
        return np.concatenate([self.prompt, np.asarray(self.answer, np.int64)])

    def after(self, count: int) -> list[int]:
        """Return the tokens of prompt and answer after the first `count`."""
        begun = count - len(self.prompt)
        return self.answer[begun:] if begun >= 0 else [*self.prompt[count:].tolist(), *self.answer]

    def valid(self, draft: list[int]) -> list[int]:
        """Return the first tokens of a draft, as far as the answer may have them."""
        return draft if self._constraint is None else draft[: self._constraint.valid(draft)]

    def look_ahead(self) -> Constraint | None:
        """Return a copy of what the next tokens may be; None if they may be any.

        Raises:
            ConstraintError: The grammar cannot be followed any further.
        """
        return None if self._constraint is None else self._constraint.fork()

    @property
    def scope(self) -> str:
        """What the keys and values depend on besides the tokens."""
        return self.adapter.key if self.adapter else ""

    def cancel(self) -> None:
        """Free the slot."""
        self.cancelled = True
        self._on_cancel(self)

    def accept(self, logits: Row, chosen: int | None = None) -> bool:
        """Sample the next token from logits of shape [vocabulary]; `flush` delivers it.

        Args:
            logits: The model's output for this row.
            chosen: The token, if the caller has chosen it already.

        Returns:
            Whether the request has ended.
        """
        try:
            return self._accept(logits, chosen)
        except ConstraintError as error:
            self.outbox.append(Event("", finish_reason="error", error=str(error), by_request=True))
            return True

    def _accept(self, logits: Row, chosen: int | None) -> bool:
        token = self._sample(logits) if chosen is None else chosen
        if not np.isfinite(logits[token]):
            message = "the model computed a value that is not a number; the exported model may be damaged"
            self.outbox.append(Event("", finish_reason="error", error=message))
            return True
        self._generated += 1
        self.last_token = token
        self.answer.append(token)
        self._held_tokens.append(token)
        if token in self._stop_token_ids:
            return self._end("stop")
        if self._constraint is not None:
            self._constraint.accept(token)
        if self.params.logprobs is not None:
            self._held_logprobs.append(token_logprob(logits, token, self.params.logprobs))
        text, stopped = self._stop.push(self._text.push(token))
        if stopped:
            self._emit(text, "stop")
            return True
        if self._constraint is not None and self._constraint.done:
            return self._end("stop", text)
        if self._generated >= self._budget:
            return self._end("length", text)
        self._emit(text, None)
        return False

    def _sample(self, logits: Row) -> int:
        adjusted = logits if self._adjust is None else self._adjust.apply(logits)
        if self._constraint is not None:
            if adjusted is logits and self.params.logprobs is not None:
                adjusted = logits.copy()  # log probabilities are the model's own
            self._constraint.allow(adjusted)
        token = sample(adjusted, self.params, self.uniforms)
        if self._adjust is not None:
            self._adjust.add(token)
        return token

    def flush(self) -> Callable[[], None] | None:
        """Deliver the events of `accept`, merged into one; return what is to be called to wake the reader, if any."""
        if not self.outbox:
            return None
        event = _merged(self.outbox)
        self.outbox.clear()
        if isinstance(self._sink, QuietSink):
            self._sink.add(event)
            return self._sink.wake
        self._sink(event)
        return None

    def fail(self, message: str) -> None:
        """End with an error."""
        self._sink(Event("", finish_reason="error", error=message))

    def end_cancelled(self) -> None:
        """End because the submitter has cancelled."""
        self._sink(Event("", finish_reason="cancelled"))

    def _end(self, reason: FinishReason, text: str = "") -> bool:
        tail, stopped = self._stop.push(self._text.flush())
        tail = text + tail if stopped else text + tail + self._stop.flush()
        self._emit(tail, "stop" if stopped else reason)
        return True

    def _emit(self, text: str, reason: FinishReason | None) -> None:
        logprobs: tuple[TokenLogprob, ...] = ()
        if text or reason:
            logprobs = tuple(self._held_logprobs)
            self._held_logprobs.clear()
        tokens = tuple(self._held_tokens)
        self._held_tokens.clear()
        cached = self.cached if len(self.answer) == 1 else 0
        self.outbox.append(Event(text, tokens, logprobs, reason, cached_tokens=cached))


def check_request(
    request: GenerationRequest, index: int, vocab_size: int, context_length: int, wanted_context: int = 0
) -> None:
    """Check a request against the model.

    Args:
        request: The request.
        index: Its position among those that are submitted together.
        vocab_size: Token ids are below this.
        context_length: The most tokens of prompt and answer.
        wanted_context: What the settings ask for, if the memory holds less.

    Raises:
        PromptTooLongError: The prompt leaves no room for an answer.
        InvalidRequestError: The prompt is empty, or a token id is not in the vocabulary.
    """
    ids = request.prompt_ids
    error: InvalidRequestError | None = None
    if not ids:
        error = InvalidRequestError("the prompt has no tokens")
    elif min(ids) < 0 or max(ids) >= vocab_size:
        error = InvalidRequestError(f"the prompt has a token id outside 0 to {vocab_size - 1}")
    elif len(ids) >= context_length:
        error = PromptTooLongError(len(ids), context_length, wanted_context)
    elif any(not 0 <= token < vocab_size for token, _ in request.sampling.logit_bias):
        error = InvalidRequestError(f"has a token id outside 0 to {vocab_size - 1}", "logit_bias")
    if error is not None:
        error.index = index
        raise error


def _merged(events: list[Event]) -> Event:
    """Merge successive events of a request into one."""
    if len(events) == 1:
        return events[0]
    return Event(
        "".join(event.text for event in events),
        tuple(token for event in events for token in event.token_ids),
        tuple(entry for event in events for entry in event.logprobs),
        events[-1].finish_reason,
        events[-1].error,
        sum(event.cached_tokens for event in events),
        events[-1].by_request,
    )
