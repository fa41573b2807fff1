"""Continuous batching: requests join as soon as a slot is free and leave as soon as they are done.

A worker thread alternates between prefill (one sequence at a time, at most a chunk of tokens) and one decode step of
all live rows. Live rows are kept together at the front of the key-value buffers, so a step computes no unused rows.
Chunks are cut at fixed positions of a prompt and rows do not mix in any kernel, so the tokens of a request do not
depend on the other requests.
"""

from tunesmith_serving.engines.text_generation.adapters.errors import AdapterError
from tunesmith_serving.engines.text_generation.adapters.store import AdapterStore
from tunesmith_serving.engines.text_generation.batching.decoder import OnnxDecoder
from tunesmith_serving.engines.text_generation.batching.sequence import Sequence, check_request
from tunesmith_serving.engines.text_generation.batching.types import EventSink, GenerationRequest
from tunesmith_serving.engines.text_generation.batching.worker import QueueWorker
from tunesmith_serving.engines.text_generation.text.stream import Decoder


class ContinuousBatcher(QueueWorker):
    """A decoder, its slots, its queue and its worker thread."""

    def __init__(
        self,
        decoder: OnnxDecoder,
        tokenizer: Decoder,
        max_queue_length: int,
        stop_token_ids: frozenset[int],
        adapters: AdapterStore | None = None,
    ) -> None:
        self._decoder = decoder
        self._adapters = adapters or AdapterStore()
        self._tokenizer = tokenizer
        self._stop_token_ids = stop_token_ids
        # Row i of the buffers belongs to _live[i]; the sequence in prefill has the row after them.
        self._live: list[Sequence] = []
        self._prefilling: Sequence | None = None
        super().__init__(decoder.slots, max_queue_length)

    @property
    def context_length(self) -> int:
        """The most tokens of prompt and answer together."""
        return self._decoder.context_length

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        return self._decoder.spec.vocab_size

    def _check(self, request: GenerationRequest, index: int) -> None:
        check_request(request, index, self.vocab_size, self.context_length)

    def _sequence(self, request: GenerationRequest, sink: EventSink) -> Sequence:
        sequence = Sequence(request, sink, self._tokenizer, self._stop_token_ids, self.context_length, self._on_cancel)
        sequence.adapter = self._adapters.resolve(request.adapter)
        return sequence

    def _in_use(self) -> int:
        return len(self._live) + (self._prefilling is not None)

    def _step(self) -> None:
        self._prefill()
        self._decode()

    def _remove_cancelled(self) -> list[Sequence]:
        ended = []
        if self._prefilling is not None and self._prefilling.cancelled:
            ended.append(self._prefilling)
            self._drop_prefilling()
        for sequence in [sequence for sequence in self._live if sequence.cancelled]:
            self._release(self._live.index(sequence))
            ended.append(sequence)
        return ended

    def _remove_all(self) -> list[Sequence]:
        left = [*self._live, *([self._prefilling] if self._prefilling else [])]
        self._live, self._prefilling = [], None
        return left

    def _prefill(self) -> None:
        """Compute up to a chunk of prompt tokens: the rest of a long prompt, or several short prompts."""
        budget = self._decoder.prefill_chunk
        while True:
            sequence = self._prefilling or self._admit()
            if sequence is None:
                return
            start = sequence.filled
            tokens = sequence.prompt[start : start + self._decoder.prefill_chunk]
            if len(tokens) > budget:
                return
            budget -= len(tokens)
            self._delivery.flush()  # tokens of the other requests do not wait for this
            try:
                logits = self._decoder.prefill(len(self._live), tokens, start)
            except AdapterError as error:
                self._drop_prefilling()
                sequence.fail(str(error))
                continue
            sequence.filled += len(tokens)
            self._prompt_tokens += len(tokens)
            if sequence.filled < len(sequence.prompt):
                continue
            with self._wake:
                self._prefilling = None
                self._live.append(sequence)
            self._generated_tokens += 1
            ended = sequence.accept(logits)
            self._delivery.add([sequence])
            if ended:
                self._release(len(self._live) - 1)
            self._delivery.flush()

    def _admit(self) -> Sequence | None:
        with self._wake:
            if not self._queue or len(self._live) >= self._decoder.slots:
                return None
            self._prefilling = self._queue.popleft()
            self._decoder.adapters.set(len(self._live), self._prefilling.adapter)
            return self._prefilling

    def _drop_prefilling(self) -> None:
        self._decoder.adapters.set(len(self._live), None)
        with self._wake:
            self._prefilling = None
            self._wake.notify_all()

    def _decode(self) -> None:
        if not self._live:
            return
        logits = self._decoder.decode(
            [sequence.last_token for sequence in self._live], [sequence.filled for sequence in self._live]
        )
        likeliest = logits.argmax(axis=1)
        ended = []
        for row, sequence in enumerate(self._live):
            sequence.filled += 1
            if sequence.accept(logits[row], int(likeliest[row]) if sequence.greedy else None):
                ended.append(row)
        self._generated_tokens += len(self._live)
        self._delivery.add(self._live)
        for row in reversed(ended):
            self._release(row)
        if ended or self._delivery.is_due():
            self._delivery.flush()

    def _release(self, row: int) -> None:
        """Remove a row: the last live row takes its place, and the row in prefill follows."""
        last = len(self._live) - 1
        if row != last:
            self._decoder.move(last, row, self._live[last].filled)
        if self._prefilling is not None:
            self._decoder.move(last + 1, last, self._prefilling.filled)
        self._decoder.adapters.set(last + (self._prefilling is not None), None)
        with self._wake:
            self._live[row] = self._live[last]
            self._live.pop()
            self._wake.notify_all()
