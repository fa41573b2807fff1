"""The state of one request in a batch."""

from collections.abc import Callable

from tunesmith_serving.engines.encoder_decoder.batching.types import SourceRequest
from tunesmith_serving.engines.encoder_decoder.model.settings import DecodingSettings
from tunesmith_serving.engines.text_generation.batching.adjust import LogitsAdjuster
from tunesmith_serving.engines.text_generation.batching.sampling import Row as RowLogits
from tunesmith_serving.engines.text_generation.batching.sequence import Sequence
from tunesmith_serving.engines.text_generation.batching.types import EventSink, FinishReason, GenerationRequest
from tunesmith_serving.engines.text_generation.text.stream import Decoder


class Row(Sequence):
    """A sequence that begins with the decoder's start token; its first and last token may be forced."""

    def __init__(
        self,
        request: GenerationRequest,
        sink: EventSink,
        decoder: Decoder,
        settings: DecodingSettings,
        room: int,
        on_cancel: Callable[[Sequence], None],
    ) -> None:
        """Take a request.

        Args:
            request: Token ids of the source, and how to translate them.
            sink: Gets the events.
            decoder: Turns token ids into text.
            settings: How the decoder starts and ends.
            room: The most tokens of this answer.
            on_cancel: Called when the request is cancelled.
        """
        super().__init__(request, sink, decoder, settings.stop, len(request.prompt_ids) + room, on_cancel)
        self.last_token = settings.start
        if request.sampling.changes_logits:
            # Penalties count the tokens of the answer, as in transformers: the source is another language's.
            self._adjust = LogitsAdjuster(request.sampling, (settings.start,))  # as transformers counts it
        own = request.forced_bos if isinstance(request, SourceRequest) else None
        self._first = settings.forced_bos if own is None else own
        self._last = None if request.sampling.ignore_eos else settings.forced_eos
        self._cut = False

    def next_token(self, logits: RowLogits, likeliest: int) -> bool:
        """Take the next token from logits of shape [vocabulary]; return whether the request has ended."""
        forced = self._forced()
        if forced is not None:
            logits = logits.copy()
            logits[forced] = 0.0  # a forced token may be one that is never generated otherwise
            return self.accept(logits, forced)
        return self.accept(logits, likeliest if self.takes_likeliest and self.independent else None)

    def _forced(self) -> int | None:
        if self._last is not None and self._generated == self._budget - 1:
            self._cut = True
            return self._last
        return self._first if self._generated == 0 else None

    def _end(self, reason: FinishReason, text: str = "") -> bool:
        return super()._end("length" if self._cut else reason, text)
