"""Which request has which row of the key-value buffers."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tunesmith_serving.engines.text_generation.batching.kv.prefix import BlockKeys
from tunesmith_serving.engines.text_generation.batching.sequence import Sequence


@dataclass(eq=False)
class Slot:
    """A request that is being computed.

    Attributes:
        sequence: Its state.
        row: Its row of the key-value buffers.
        keys: The keys of its blocks in the prefix cache.
    """

    sequence: Sequence
    row: int
    keys: BlockKeys = field(init=False)

    def __post_init__(self) -> None:
        """Begin the keys."""
        self.keys = BlockKeys(self.sequence.scope)

    @property
    def in_prefill(self) -> bool:
        """Whether a part of the prompt is not computed yet."""
        return self.sequence.filled < len(self.sequence.prompt)


class Slots:
    """The requests by row, and the memory promised to them."""

    def __init__(self, count: int, tokens: int) -> None:
        """Make empty slots.

        Args:
            count: Number of rows.
            tokens: Tokens of all requests together whose keys and values fit in memory.
        """
        self._rows: list[Slot | None] = [None] * count
        self._tokens = tokens
        self._promised = 0

    def __len__(self) -> int:
        """Return the number of requests."""
        return sum(slot is not None for slot in self._rows)

    def __iter__(self) -> Iterator[Slot]:
        """Return the requests by row."""
        return (slot for slot in self._rows if slot is not None)

    @property
    def free(self) -> int:
        """The number of rows without a request."""
        return len(self._rows) - len(self)

    def free_row(self, preferred: Iterable[int] = ()) -> int | None:
        """Return the first preferred row without a request, or else the first one."""
        first = next((row for row, slot in enumerate(self._rows) if slot is None), None)
        return next(filter(self.is_free, preferred), first)

    def is_free(self, row: int) -> bool:
        """Return whether there is such a row, without a request."""
        return row < len(self._rows) and self._rows[row] is None

    def has_memory(self, tokens: int) -> bool:
        """Return whether there is memory for a request of so many tokens, prompt and answer."""
        return self._promised + tokens <= self._tokens

    def add(self, slot: Slot) -> None:
        """Give a request its row, and promise it memory for all that it may become."""
        self._rows[slot.row] = slot
        self._promised += slot.sequence.most_tokens

    def remove(self, slot: Slot) -> None:
        """Free a request's row."""
        self._rows[slot.row] = None
        self._promised -= slot.sequence.most_tokens

    def exchange(self, one: Slot, other: Slot) -> None:
        """Let two requests, of which nothing is computed yet, have each other's row."""
        one.row, other.row = other.row, one.row
        self._rows[one.row], self._rows[other.row] = one, other

    def count_gaps(self) -> tuple[int, int]:
        """Return how many free rows there are before the last request that decodes, and how many moves fill them."""
        rows = [slot.row for slot in self if not slot.in_prefill]
        free = sum(map(self.is_free, range(rows[-1]))) if rows else 0
        return free, sum(row > rows[-1] - free for row in rows)

    def gaps(self) -> Iterator[tuple[Slot, int]]:
        """Yield a request of a late row and an earlier free row for it, until there is none; it gets that row then."""
        while True:
            gap = self.free_row()
            last = next((slot for slot in reversed(self._rows) if slot is not None and not slot.in_prefill), None)
            if gap is None or last is None or last.row < gap:
                return
            yield last, gap
            # In this order, so that others who count never see one request fewer.
            row, last.row = last.row, gap
            self._rows[gap] = last
            self._rows[row] = None
