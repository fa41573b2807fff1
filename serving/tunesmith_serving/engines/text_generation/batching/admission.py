"""Which prompts are computed next: a row for each request, what the prefix cache has of it, and which go together."""

import threading
from collections import deque

from tunesmith_serving.engines.text_generation.batching.chunks import has_single_token, next_chunk
from tunesmith_serving.engines.text_generation.batching.decoder import OnnxDecoder
from tunesmith_serving.engines.text_generation.batching.kv.prefix import BLOCK_TOKENS, PrefixCache
from tunesmith_serving.engines.text_generation.batching.sequence import Sequence
from tunesmith_serving.engines.text_generation.batching.slots import Slot, Slots


class Admission:
    """Gives waiting requests rows.

    Attributes:
        query_tokens: Prompt tokens of the requests so far.
        hit_tokens: Those of them that the prefix cache had.
    """

    def __init__(
        self,
        decoder: OnnxDecoder,
        prefix: PrefixCache,
        running: Slots,
        queue: deque[Sequence],
        wake: threading.Condition,
    ) -> None:
        """Take what it works on.

        Args:
            decoder: Computes the prompts.
            prefix: What was computed before.
            running: The requests that have rows.
            queue: Those that wait; others add to it, and remove what is cancelled.
            wake: Held while requests are moved from the queue to the rows.
        """
        self._decoder, self._prefix, self._running = decoder, prefix, running
        self._queue, self._wake = queue, wake
        self.query_tokens = self.hit_tokens = 0

    def prefill_tokens(self) -> int:
        """Return how many prompt tokens may be computed before the next decode step.

        Usually that is a chunk. It is more while more requests wait for free rows than decode: a step for few delays
        many. Those with adapters do better to wait for the rows that their matrices are in.
        """
        with self._wake:
            waiting = min(sum(sequence.adapter is None for sequence in self._queue), self._running.free)
            decoding = sum(not slot.in_prefill for slot in self._running)
        chunks = max(1, waiting // max(1, decoding))
        return min(chunks * self._decoder.prefill_chunk, self._decoder.prefill_tokens)

    def admit(self) -> Slot | None:
        """Give the request that waits longest a row, with what the prefix cache has of its prompt."""
        with self._wake:
            if not self._queue or not self._running.has_memory(self._queue[0].most_tokens):
                return None
            # A row further on would leave gaps before it that no other request fills.
            limit = len(self._running) + len(self._queue)
            row = self._running.free_row(row for row in self._decoder.rows_with(self._queue[0].adapter) if row < limit)
            if row is None:
                return None
            slot = Slot(self._queue.popleft(), row)
            self._running.add(slot)
        self._decoder.rows.take(slot.row)
        self._load(slot, self._known(slot))
        return slot

    def join(self, first: Slot, budget: int) -> list[Slot]:
        """Admit requests that wait and the rest of whose prompts can be computed in one run with that of `first`.

        Returns:
            All of them in the order of their rows, which are successive.
        """
        held, keys = {first: first.sequence.filled}, {}
        while (found := self._next_of(held, budget)) is not None:
            slot, known = found
            with self._wake:
                if not self._queue or self._queue[0] is not slot.sequence:  # cancelled meanwhile
                    continue
                self._queue.popleft()
                self._running.add(slot)
            self._decoder.rows.take(slot.row)
            held[slot], keys[slot] = len(known) * BLOCK_TOKENS, known
        free = [slot for slot in held if not slot.sequence.filled]
        for slot in free:
            rows = set(self._decoder.rows_with(slot.sequence.adapter))
            others = (each for each in free if each.row in rows and each.sequence.adapter is not slot.sequence.adapter)
            if slot.row not in rows and (other := next(others, None)):
                self._running.exchange(slot, other)
        for slot, known in keys.items():
            self._load(slot, known)
        return sorted(held, key=lambda slot: slot.row)

    def rest(self, slot: Slot, filled: int | None = None) -> tuple[int, int]:
        """Return the next tokens of a prompt to compute; `filled` are those that its row holds, or is to hold."""
        filled = slot.sequence.filled if filled is None else filled
        return next_chunk(filled, len(slot.sequence.prompt), self._decoder.prefill_chunk)

    def blocks(self, tokens: int) -> int:
        """Return how many blocks of that many tokens can be in the prefix cache."""
        return max(0, tokens) // BLOCK_TOKENS if self._prefix.capacity else 0

    def _load(self, slot: Slot, keys: list[bytes]) -> None:
        """Begin a request with blocks of the prefix cache."""
        self._prefix.load(keys, slot.row)
        with self._wake:
            slot.sequence.filled = slot.sequence.cached = len(keys) * BLOCK_TOKENS
            self.query_tokens += len(slot.sequence.prompt)
            self.hit_tokens += slot.sequence.cached

    def _known(self, slot: Slot) -> list[bytes]:
        """Return the keys of the prompt's first blocks that the prefix cache has; they are never all of the prompt."""
        keys = slot.keys.of(slot.sequence.prompt, self.blocks(len(slot.sequence.prompt) - 1))
        return keys[: self._prefix.match(keys)]

    def _next_of(self, group: dict[Slot, int], budget: int) -> tuple[Slot, list[bytes]] | None:
        """Return the request that waits longest, in the row after a group's, if it can be computed with them.

        With it come the keys of what the prefix cache has of its prompt. `group` says what its rows hold, or are to.
        """
        with self._wake:
            if not self._queue:
                return None
            slot = Slot(self._queue[0], max(member.row for member in group) + 1)
            if not (self._running.is_free(slot.row) and self._running.has_memory(slot.sequence.most_tokens)):
                return None
        keys = self._known(slot)
        start, end = self.rest(slot, len(keys) * BLOCK_TOKENS)
        if keys and (end < len(slot.sequence.prompt) or not self._decoder.ragged):
            return None
        if len(slot.sequence.prompt) - start > self._decoder.prefill_chunk:
            return None
        past = [*(self.rest(member, held)[0] for member, held in group.items()), start]
        lengths = [len(each.sequence.prompt) - before for each, before in zip((*group, slot), past, strict=True)]
        if max(lengths) * len(lengths) > budget or min(lengths) == 1:
            return None
        if any(map(has_single_token, lengths if any(past) else [max(lengths)])):
            return None  # padding is computed like tokens only if no row holds any
        if max(past) + max(lengths) > self._decoder.context_length:
            return None
        if min(lengths) < max(lengths) / 2 or (self._decoder.same_lengths and min(lengths) < max(lengths)):
            return None  # mostly padding, or more of it than the model can tell from tokens
        # A prompt that goes on like another of the group waits for what that one leaves in the prefix cache.
        wanted = slice(len(keys), len(keys) + 1)
        own = slot.keys.of(slot.sequence.prompt, self.blocks(len(slot.sequence.prompt) - 1))[wanted]
        others = [
            member.keys.of(member.sequence.prompt, self.blocks(len(member.sequence.prompt)))[wanted] for member in group
        ]
        return None if own and own in others else (slot, keys)
