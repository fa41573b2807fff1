"""Decode steps: the next tokens of all requests whose prompts are computed."""

import time

from tunesmith_serving.engines.text_generation.adapters.rows import RowAdapter, Unused
from tunesmith_serving.engines.text_generation.batching.choosing import Advance, advance
from tunesmith_serving.engines.text_generation.batching.decoder import Logits, OnnxDecoder
from tunesmith_serving.engines.text_generation.batching.ragged import MOST_DRAFTS
from tunesmith_serving.engines.text_generation.batching.slots import Slot, Slots
from tunesmith_serving.engines.text_generation.batching.speculation.draft_model import DraftModel
from tunesmith_serving.engines.text_generation.batching.speculation.speculator import Speculator
from tunesmith_serving.engines.text_generation.batching.speculation.stats import SpeculationStats

PATIENCE = 4
"""Free rows that are computed for nothing before a request moves into one of them. A move copies its keys and values
and the matrices of its adapter, and the next request would soon need others."""

_Inputs = tuple[list[int], list[int], list[RowAdapter]]
"""Tokens, numbers of tokens held, and adapters of rows."""


class Decoding:
    """Computes decode steps, with drafts where they make answers faster."""

    def __init__(self, decoder: OnnxDecoder, draft_tokens: int, draft_model: DraftModel | None = None) -> None:
        """Take the decoder.

        Args:
            decoder: Computes the model.
            draft_tokens: The most drafts of a request that a step checks; 0 for one token a step.
            draft_model: Makes drafts where prompt lookup finds none.
        """
        self._decoder = decoder
        self._speculator = Speculator(draft_tokens if decoder.ragged else 0, MOST_DRAFTS, draft_model)
        self._wasted = 0

    def stats(self) -> SpeculationStats:
        """Return what became of the drafts so far."""
        return self._speculator.stats()

    def release(self, row: int) -> None:
        """Free a row whose request has ended."""
        self._speculator.release(row)

    def step(self, running: Slots) -> list[tuple[Slot, Advance]]:
        """Compute one step; return each live request with what it got.

        Raises:
            UnreadableAdapterError: An adapter has changed or cannot be read. No request is changed.
        """
        self._close_gaps(running)
        live = [slot for slot in running if not slot.in_prefill]
        if not live:
            return []
        sequences = [slot.sequence for slot in live]
        inputs = _inputs(running, live)
        drafts = self._speculator.propose(live, self._decoder.context_length - max(inputs[1]) - 1)
        results = advance(sequences, drafts, self._compute(live, inputs, drafts))
        self._speculator.record(sequences, drafts, results)
        for sequence, result in zip(sequences, results, strict=True):
            sequence.filled += result.tokens
        return list(zip(live, results, strict=True))

    def _close_gaps(self, running: Slots) -> None:
        free, moves = running.count_gaps()
        self._wasted = self._wasted + free if free else 0
        if self._wasted <= PATIENCE * moves:
            return
        self._wasted = 0
        for slot, row in running.gaps():
            self._decoder.rows.move(slot.row, row, slot.sequence.filled)
            self._speculator.move(slot.row, row)

    def _compute(self, live: list[Slot], inputs: _Inputs, drafts: list[list[int]]) -> Logits:
        """Return the logits of the live rows' tokens and drafts, shape [tokens and drafts, vocabulary]."""
        tokens, past, adapters = inputs
        rows = [slot.row for slot in live]
        started = time.perf_counter()
        most = max(map(len, drafts))
        if most:
            given = [[token] for token in tokens]
            for row, draft in zip(rows, drafts, strict=True):
                given[row] += draft
            logits = self._decoder.decode_several(given, past, adapters, rows)
        else:
            logits = self._decoder.decode(tokens, past, adapters)
            logits = logits if len(rows) == len(tokens) else logits[rows]
        self._speculator.timed(len(tokens) * (most + 1), time.perf_counter() - started)
        return logits


def _inputs(running: Slots, live: list[Slot]) -> _Inputs:
    """Return the next token of each row up to the last live one, how many tokens the rows hold, and their adapters.

    Rows in prefill and free ones may be among them: what they get is overwritten by their next chunk.
    """
    rows = live[-1].row + 1
    tokens, past = [0] * rows, [0] * rows
    adapters: list[RowAdapter] = [Unused.UNUSED] * rows
    for slot in running:
        if slot.row < rows:
            tokens[slot.row], past[slot.row] = max(slot.sequence.last_token, 0), slot.sequence.filled
            if not slot.in_prefill:
                adapters[slot.row] = slot.sequence.adapter
    return tokens, past, adapters
