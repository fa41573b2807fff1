"""Drafts by a small model that has the same tokenizer as the one that is served.

It has a row of keys and values for each row of that model. A request's row holds the tokens that the small model has
read, among them drafts; of those, it keeps what the answer has taken. What it drafts changes no answer, so its runs
may be cut anywhere, and differ in rounding.
"""

import time
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tunesmith_serving.engines.text_generation.batching.decoder import OnnxDecoder
from tunesmith_serving.engines.text_generation.batching.kv.prefix import BLOCK_TOKENS, BlockKeys, PrefixCache
from tunesmith_serving.engines.text_generation.batching.sequence import Sequence
from tunesmith_serving.engines.text_generation.batching.slots import Slot
from tunesmith_serving.engines.text_generation.batching.speculation.drawing import DraftRow, draw_drafts
from tunesmith_serving.engines.text_generation.batching.speculation.plan import StepCost

MOST_BEHIND = 8
"""The most tokens that a row reads in the run that makes its first draft; more are read before, as a prompt is."""
MOST_DRAFTS_OF_ROW = 16
"""The most drafts of a row in a step; see `RuntimeSpec.draft_tokens`."""


@dataclass(eq=False)
class _Held:
    """What a row holds.

    Attributes:
        sequence: The request.
        keys: The keys of its blocks. A draft model has no adapters, so all requests share them.
        count: Tokens of prompt and answer that it holds.
        ahead: Drafts that it holds behind them.
        lost: Whether the model cannot draft for it any more.
    """

    sequence: Sequence
    keys: BlockKeys = field(default_factory=lambda: BlockKeys(""))
    count: int = 0
    ahead: list[int] = field(default_factory=list)
    lost: bool = False

    def settle(self) -> list[int]:
        """Keep the drafts that the answer has taken; return the tokens that the row does not hold yet."""
        missing = self.sequence.after(self.count)
        right = 0
        # The last token is read again, even if it was drafted: its logits give the next draft.
        for token, draft in zip(missing[:-1], self.ahead, strict=False):
            if token != draft:
                break
            right += 1
        self.count += right
        self.ahead = []
        return missing[right:]


class DraftModel:
    """A decoder that drafts, and what it holds of the requests that run.

    Attributes:
        cost: What its runs cost.
        share: What a run costs as a share of one of the served model, as long as nothing is measured.
    """

    def __init__(self, decoder: OnnxDecoder, vocab_size: int, prefix_bytes: int, share: float) -> None:
        """Take the decoder.

        Args:
            decoder: Computes the draft model; it has as many rows as the served one.
            vocab_size: Tokens that the served model knows.
            prefix_bytes: Bytes of the prefix cache.
            share: What a run costs as a share of one of the served model.

        Raises:
            MemoryShortageError: The system does not give out the addresses of the prefix cache.
        """
        self.cost = StepCost()
        self.share = share
        self._decoder = decoder
        self._vocab_size = vocab_size
        self._prefix = PrefixCache(decoder.rows, prefix_bytes)
        self._held: dict[int, _Held] = {}

    @property
    def row_bytes(self) -> int:
        """Memory of the keys and values of the running requests."""
        return self._decoder.rows.shape.token_bytes * sum(held.count for held in list(self._held.values()))

    @property
    def prefix_bytes(self) -> int:
        """Memory of the blocks in the prefix cache."""
        return self._prefix.used_bytes

    def ready(self, slots: Items[Slot]) -> list[bool]:
        """Read what these requests have said that the model has not read yet, up to a chunk of tokens.

        Returns:
            Whether drafts of each can be made now.
        """
        budget, found = self._decoder.prefill_chunk, []
        for slot in slots:
            held = self._hold(slot)
            missing = held.settle()
            known = self._decoder.spec.vocab_size
            fits = held.count + len(missing) + MOST_BEHIND + MOST_DRAFTS_OF_ROW <= self._decoder.context_length
            held.lost = held.lost or not fits or max(missing) >= known
            while not held.lost and budget and len(missing) > MOST_BEHIND:
                part = missing[: min(budget, len(missing) - 1)]
                self._decoder.prefill(slot.row, np.asarray(part, np.int64), held.count)
                held.count += len(part)
                budget -= len(part)
                missing = missing[len(part) :]
                self._store(slot.row, held)
            found.append(not held.lost and len(missing) <= MOST_BEHIND)
        return found

    def draft(self, slots: Items[Slot], counts: Items[int]) -> list[list[int]]:
        """Return drafts of requests that are `ready`, at most as many of each as `counts` says; none of the others."""
        rows = {slot.row: DraftRow(slot.sequence, count) for slot, count in zip(slots, counts, strict=True) if count}
        self._read(rows)
        for _ in range(1, max(counts)):
            self._go_on(rows)
        return [rows[slot.row].drafts if slot.row in rows else [] for slot in slots]

    def move(self, source: int, target: int) -> None:
        """Move what a row holds to a free one."""
        if (held := self._held.pop(source, None)) is not None:
            self._decoder.rows.move(source, target, held.count + len(held.ahead))
            self._held[target] = held

    def release(self, row: int) -> None:
        """Free a row; what it holds stays in the prefix cache."""
        if (held := self._held.pop(row, None)) is not None:
            length = held.count + len(held.ahead)
            held.settle()
            self._store(row, held)
            self._decoder.rows.free(row, length)

    def _hold(self, slot: Slot) -> _Held:
        """Return what a request's row holds; at first that is what the prefix cache has of its tokens."""
        held = self._held.get(slot.row)
        if held is not None:
            return held
        held = self._held[slot.row] = _Held(slot.sequence)
        self._decoder.rows.take(slot.row)
        if self._prefix.capacity:
            tokens = slot.sequence.tokens
            keys = held.keys.of(tokens, (len(tokens) - 1) // BLOCK_TOKENS)
            keys = keys[: min(self._prefix.match(keys), self._decoder.context_length // BLOCK_TOKENS)]
            self._prefix.load(keys, slot.row)
            held.count = len(keys) * BLOCK_TOKENS
        return held

    def _read(self, rows: dict[int, DraftRow]) -> None:
        """Read the rest of what was said, which gives the first drafts."""
        missing = {row: self._held[row].settle() for row in rows}
        width = max(map(len, missing.values()))
        count = max(rows) + 1
        tokens, past = [missing.get(row, [0]) for row in range(count)], []
        for row in range(count):
            held = self._held.get(row)
            if held is not None and row not in rows:
                # Padding is written behind what a row holds, and must not leave it.
                held.settle()
                held.count = min(held.count, self._decoder.context_length - width)
            past.append(held.count if held is not None else 0)
        started = time.perf_counter()
        self._draw(rows, self._decoder.decode_several(tokens, past, [None] * count, sorted(rows), last_only=True))
        self.cost.record(count * width, time.perf_counter() - started)
        for row, read in missing.items():
            held = self._held[row]
            held.count += len(read)
            if held.count // BLOCK_TOKENS > (held.count - len(read)) // BLOCK_TOKENS:
                self._store(row, held)

    def _go_on(self, rows: dict[int, DraftRow]) -> None:
        """Compute one more draft of each row."""
        count = max(rows) + 1
        tokens, past = [0] * count, [0] * count
        for row in range(count):
            if (held := self._held.get(row)) is not None:
                past[row] = held.count + len(held.ahead)
        for row, each in rows.items():
            if not each.ended:
                tokens[row] = each.drafts[-1]
                self._held[row].ahead.append(tokens[row])
        started = time.perf_counter()
        logits = self._decoder.decode(tokens, past, [None] * count)
        self._draw(rows, logits[sorted(rows)])
        self.cost.record(count, time.perf_counter() - started)

    def _draw(self, rows: dict[int, DraftRow], logits: npt.NDArray[np.float32]) -> None:
        """Choose a draft of each row, whose logits are in the order of the rows."""
        if logits.shape[1] > self._vocab_size:
            logits = logits[:, : self._vocab_size]
        elif logits.shape[1] < self._vocab_size:
            wide = np.full((len(logits), self._vocab_size), -np.inf, np.float32)
            wide[:, : logits.shape[1]] = logits
            logits = wide
        draw_drafts([rows[row] for row in sorted(rows)], logits)

    def _store(self, row: int, held: _Held) -> None:
        """Put the blocks of a row into the prefix cache."""
        if self._prefix.capacity:
            self._prefix.store(held.keys.of(held.sequence.tokens, held.count // BLOCK_TOKENS), row)
