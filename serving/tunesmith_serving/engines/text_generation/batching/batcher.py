"""Continuous batching: requests join as soon as a slot is free and leave as soon as they are done.

A worker thread alternates between prefill, usually a chunk of tokens, and one decode step of all live rows. A request
gets a free row and copies from the prefix cache what others have computed of its prompt. The rest is computed in chunks
that are cut at fixed positions of the prompt, and the last chunks of several prompts in one run. So the tokens of a
request do not depend on the other requests: see decoder.py for what holds to the last bit.
"""

from tunesmith_serving.engines.text_generation.adapters.errors import UnreadableAdapterError
from tunesmith_serving.engines.text_generation.adapters.store import AdapterStore
from tunesmith_serving.engines.text_generation.batching.admission import Admission
from tunesmith_serving.engines.text_generation.batching.decoder import OnnxDecoder
from tunesmith_serving.engines.text_generation.batching.decoding import Decoding
from tunesmith_serving.engines.text_generation.batching.kv.prefix import BLOCK_TOKENS, PrefixCache, Tokens
from tunesmith_serving.engines.text_generation.batching.sampling import Row
from tunesmith_serving.engines.text_generation.batching.sequence import Sequence, check_request
from tunesmith_serving.engines.text_generation.batching.slots import Slot, Slots
from tunesmith_serving.engines.text_generation.batching.speculation.draft_model import DraftModel
from tunesmith_serving.engines.text_generation.batching.speculation.stats import SpeculationStats
from tunesmith_serving.engines.text_generation.batching.types import (
    CacheStats,
    EventSink,
    GenerationRequest,
)
from tunesmith_serving.engines.text_generation.batching.worker import QueueWorker
from tunesmith_serving.engines.text_generation.text.stream import Decoder


class ContinuousBatcher(QueueWorker):
    """A decoder, its slots, its prefix cache, its queue and its worker thread."""

    def __init__(
        self,
        decoder: OnnxDecoder,
        tokenizer: Decoder,
        max_queue_length: int,
        stop_token_ids: frozenset[int],
        adapters: AdapterStore | None = None,
        draft_tokens: int = 0,
        draft_model: DraftModel | None = None,
    ) -> None:
        """Start the thread.

        Args:
            decoder: Computes the model's steps.
            tokenizer: Turns token ids into text.
            max_queue_length: Requests that may wait.
            stop_token_ids: Tokens that end an answer.
            adapters: The adapters that requests can name.
            draft_tokens: The most drafts of a request that a step checks; 0 for one token a step.
            draft_model: Makes drafts where prompt lookup finds none.

        Raises:
            MemoryShortageError: The system does not give out the addresses of the prefix cache.
        """
        super().__init__(decoder.slots, max_queue_length)
        self._decoder = decoder
        self._adapters = adapters or AdapterStore()
        self._tokenizer = tokenizer
        self._stop_token_ids = stop_token_ids
        self._running = Slots(decoder.slots, decoder.memory.row_tokens)
        self._prefix = PrefixCache(decoder.rows, decoder.memory.prefix_bytes)
        self._draft_model = draft_model
        self._decoding = Decoding(decoder, draft_tokens, draft_model)
        self._admission = Admission(decoder, self._prefix, self._running, self._queue, self._wake)
        self.start()

    @property
    def context_length(self) -> int:
        """The most tokens of prompt and answer together."""
        return self._decoder.context_length

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        return self._decoder.spec.vocab_size

    def _check(self, request: GenerationRequest, index: int) -> None:
        check_request(request, index, self.vocab_size, self.context_length, self._decoder.wanted_context)

    def _sequence(self, request: GenerationRequest, sink: EventSink) -> Sequence:
        sequence = Sequence(request, sink, self._tokenizer, self._stop_token_ids, self.context_length, self._on_cancel)
        sequence.adapter = self._adapters.resolve(request.adapter)
        return sequence

    def _count(self, request: GenerationRequest) -> None:
        self._adapters.count(request.adapter)

    def _in_use(self) -> int:
        return len(self._running)

    def _cache_stats(self) -> CacheStats:
        row_bytes = self._decoder.rows.shape.token_bytes * sum(slot.sequence.filled for slot in self._running)
        draft = self._draft_model
        return CacheStats(
            query_tokens=self._admission.query_tokens,
            hit_tokens=self._admission.hit_tokens,
            prefix_blocks=len(self._prefix),
            prefix_bytes=self._prefix.used_bytes + (draft.prefix_bytes if draft else 0),
            row_bytes=row_bytes + (draft.row_bytes if draft else 0),
        )

    def _speculation_stats(self) -> SpeculationStats:
        return self._decoding.stats()

    def _step(self) -> None:
        try:
            self._prefill()
            self._decode()
        except UnreadableAdapterError as error:
            self._drop(error)

    def _drop(self, error: UnreadableAdapterError) -> None:
        """End the requests of an adapter that cannot be read any more, and take no more of them."""
        self._adapters.fail(error.adapter, str(error))
        self._delivery.flush()
        slots = [slot for slot in self._running if slot.sequence.adapter is error.adapter]
        for slot in slots:
            self._release(slot)
        with self._wake:
            waiting = [sequence for sequence in self._queue if sequence.adapter is error.adapter]
            for sequence in waiting:
                self._queue.remove(sequence)
            self._wake.notify_all()
        for sequence in (*(slot.sequence for slot in slots), *waiting):
            sequence.fail(str(error))

    def _remove_cancelled(self) -> list[Sequence]:
        cancelled = [slot for slot in self._running if slot.sequence.cancelled]
        for slot in cancelled:
            self._release(slot)
        return [slot.sequence for slot in cancelled]

    def _remove_all(self) -> list[Sequence]:
        left = [slot.sequence for slot in self._running]
        for slot in list(self._running):
            self._running.remove(slot)
        return left

    def _prefill(self) -> None:
        """Compute some prompt tokens: the rest of a long prompt, or what is left of several."""
        budget = self._admission.prefill_tokens()
        while True:
            # Of requests that run, one at most is unfinished, or several after an adapter of theirs could not be read.
            slot = next((slot for slot in self._running if slot.in_prefill), None) or self._admission.admit()
            if slot is None:
                return
            prompt = slot.sequence.prompt
            start, end = self._admission.rest(slot)
            if end - start > budget:
                return
            joins = end == len(prompt) and (start == 0 or self._decoder.ragged)
            group = self._admission.join(slot, budget) if joins else [slot]
            self._delivery.flush()  # tokens of the other requests do not wait for this
            if len(group) == 1:
                budget -= end - start
                logits = self._decoder.prefill(slot.row, prompt[start:end], start, slot.sequence.adapter)
                self._computed(slot, end, logits)
                continue
            past = [self._admission.rest(member)[0] for member in group]
            prompts = [member.sequence.prompt[held:] for member, held in zip(group, past, strict=True)]
            budget -= len(prompts) * max(map(len, prompts))
            adapters = [member.sequence.adapter for member in group]
            results = self._decoder.prefill_together(group[0].row, prompts, adapters, past)
            for member, logits in zip(group, results, strict=True):
                self._computed(member, len(member.sequence.prompt), logits)

    def _computed(self, slot: Slot, end: int, logits: Row) -> None:
        """Take the result of a chunk that ends at `end`; logits of shape [vocabulary]."""
        sequence = slot.sequence
        self._prompt_tokens += end - sequence.filled
        sequence.filled = end
        self._store(slot, sequence.prompt)
        if slot.in_prefill:
            return
        self._generated_tokens += 1
        ended = sequence.accept(logits)
        self._delivery.add([sequence])
        if ended:
            self._release(slot)
        self._delivery.flush()

    def _decode(self) -> None:
        """Compute the next tokens of every request whose prompt is computed."""
        results = self._decoding.step(self._running)
        if not results:
            return
        self._generated_tokens += sum(result.tokens for _, result in results)
        self._delivery.add(slot.sequence for slot, _ in results)
        ended = [slot for slot, result in results if result.ended]
        for slot in ended:
            self._release(slot)
        if ended or self._delivery.is_due():
            self._delivery.flush()

    def _release(self, slot: Slot) -> None:
        """Free a request's row; what it computed stays in the prefix cache."""
        self._store(slot, slot.sequence.tokens)
        self._decoder.rows.free(slot.row, slot.sequence.filled)
        self._decoding.release(slot.row)
        with self._wake:
            self._running.remove(slot)
            self._wake.notify_all()

    def _store(self, slot: Slot, tokens: Tokens) -> None:
        """Put the blocks of a row into the prefix cache; `tokens` are at least as many as the row holds."""
        if self._prefix.capacity:
            self._prefix.store(slot.keys.of(tokens, slot.sequence.filled // BLOCK_TOKENS), slot.row)
