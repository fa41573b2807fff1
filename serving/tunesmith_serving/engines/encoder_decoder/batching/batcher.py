"""Batches of requests that start together and leave one by one.

A decoder with cross-attention has no mask for its own past, so the rows of a batch must be at the same step. A second
batch starts beside a running one, and their steps alternate: a short request does not wait for the end of a long one.
"""

from __future__ import annotations

from typing import cast

from tunesmith_serving.engines.encoder_decoder.batching.batch import Batch, choose, may_start
from tunesmith_serving.engines.encoder_decoder.batching.row import Row
from tunesmith_serving.engines.encoder_decoder.batching.types import SourceTooLongError
from tunesmith_serving.engines.encoder_decoder.model.settings import DecodingSettings
from tunesmith_serving.engines.encoder_decoder.model.translator import OnnxTranslator
from tunesmith_serving.engines.text_generation.batching.sequence import Sequence, check_request
from tunesmith_serving.engines.text_generation.batching.types import EventSink, GenerationRequest
from tunesmith_serving.engines.text_generation.batching.worker import QueueWorker
from tunesmith_serving.engines.text_generation.text.stream import Decoder


class TranslationBatcher(QueueWorker):
    """A translation model, its queue and its worker thread."""

    def __init__(
        self,
        model: OnnxTranslator,
        tokenizer: Decoder,
        settings: DecodingSettings,
        *,
        slots: int,
        max_queue_length: int,
        context_length: int,
        max_new_tokens: int,
    ) -> None:
        """Start the worker.

        Args:
            model: The model.
            tokenizer: Turns token ids into text.
            settings: How the decoder starts and ends.
            slots: Requests that are computed at the same time, in all batches.
            max_queue_length: Requests that may wait.
            context_length: The most tokens of source and answer together.
            max_new_tokens: The most tokens of an answer to a request that gives no number.
        """
        super().__init__(slots, max_queue_length)
        self._model = model
        self._tokenizer = tokenizer
        self._settings = settings
        self._context_length = context_length
        self._max_new_tokens = max_new_tokens
        self._batches: list[Batch] = []
        self.start()

    @property
    def context_length(self) -> int:
        """The most tokens of source and answer together."""
        return self._context_length

    @property
    def longest_source(self) -> int:
        """The most tokens of a source."""
        positions = self._settings.positions or self._context_length
        return min(self._context_length - 1, positions)

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        return self._model.vocab_size

    def _check(self, request: GenerationRequest, index: int) -> None:
        if len(request.prompt_ids) > self.longest_source:
            raise SourceTooLongError(len(request.prompt_ids), self.longest_source, index)
        check_request(request, index, self.vocab_size, self._context_length)

    def _sequence(self, request: GenerationRequest, sink: EventSink) -> Sequence:
        room = self._context_length - len(request.prompt_ids)
        if request.sampling.max_tokens is None:
            room = min(room, self._max_new_tokens)
        if self._settings.positions is not None:
            room = min(room, max(1, self._settings.positions - 1))
        return Row(request, sink, self._tokenizer, self._settings, room, self._on_cancel)

    def _in_use(self) -> int:
        return sum(len(batch.rows) for batch in self._batches)

    def _step(self) -> None:
        self._start_batch()
        for batch in list(self._batches):
            rows = list(batch.rows)
            ended = batch.step()
            self._generated_tokens += len(rows)
            self._delivery.add(rows)
            if ended:
                self._drop_empty()
            if ended or self._delivery.is_due():
                self._delivery.flush()

    def _start_batch(self) -> None:
        """Start a batch of requests that wait, if there is room for it."""
        with self._wake:
            free = self._slots - self._in_use()
            if not may_start(len(self._queue), len(self._batches), free, self._slots):
                return
            waiting = list(self._queue)
            rows = [waiting[index] for index in choose([len(row.prompt) for row in waiting], free)]
            for row in rows:
                self._queue.remove(row)
            batch = Batch(self._model, cast("list[Row]", rows), self._settings.suppressed)
            self._batches.append(batch)
        self._delivery.flush()  # tokens of the other requests do not wait for the encoder
        batch.encode()
        self._prompt_tokens += sum(len(row.prompt) for row in rows)

    def _drop_empty(self) -> None:
        with self._wake:
            self._batches = [batch for batch in self._batches if batch.rows]
            self._wake.notify_all()

    def _remove_cancelled(self) -> list[Sequence]:
        ended: list[Sequence] = []
        for batch in self._batches:
            cancelled = [row for row in batch.rows if row.cancelled]
            batch.remove(cancelled)
            ended += cancelled
        self._drop_empty()
        return ended

    def _remove_all(self) -> list[Sequence]:
        left: list[Sequence] = [row for batch in self._batches for row in batch.rows]
        self._batches = []
        return left
