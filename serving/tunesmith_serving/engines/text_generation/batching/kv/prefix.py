"""The prefix cache: keys and values of tokens that were computed before, shared by requests that begin with them.

They are kept in blocks. A block's key is a hash of its tokens and of the key of the block before it, so equal keys mean
equal tokens from the start on, computed by the same adapter. Blocks are copied, into a request's row when it begins and
out of it when they are computed: copying takes a small part of the time of computing them.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_serving.engines.text_generation.batching.chunks import GRAIN
from tunesmith_serving.engines.text_generation.batching.kv.mapped import MappedArray
from tunesmith_serving.engines.text_generation.batching.kv.rows import KeyValueRows

BLOCK_TOKENS = GRAIN
Tokens = npt.NDArray[np.int64]


class BlockKeys:
    """The keys of the blocks of one growing sequence of tokens."""

    def __init__(self, scope: str) -> None:
        """Begin a sequence.

        Args:
            scope: What besides the tokens the keys and values depend on: the adapter. Blocks of different scopes are
                never shared.
        """
        self._keys: list[bytes] = []
        self._last = hashlib.blake2b(scope.encode(), digest_size=16).digest()

    def of(self, tokens: Tokens | Sequence[int], blocks: int) -> list[bytes]:
        """Return the keys of the first `blocks` blocks of the tokens, of which those seen before are a prefix."""
        for index in range(len(self._keys), blocks):
            part = np.asarray(tokens[index * BLOCK_TOKENS : (index + 1) * BLOCK_TOKENS], np.int64)
            self._last = hashlib.blake2b(self._last + part.tobytes(), digest_size=16).digest()
            self._keys.append(self._last)
        return self._keys[:blocks]


class PrefixCache:
    """Blocks of keys and values; the one that was used longest ago makes room for a new one."""

    def __init__(self, rows: KeyValueRows, memory: int) -> None:
        """Reserve the addresses; memory is taken as blocks are stored.

        Args:
            rows: The rows of the running requests.
            memory: The most memory in bytes; less than one block turns the cache off.

        Raises:
            MemoryShortageError: The system does not give out that many addresses.
        """
        self._rows = rows
        shape = rows.shape
        self.block_bytes = BLOCK_TOKENS * shape.token_bytes
        self.capacity = memory // self.block_bytes
        size = (self.capacity, shape.parts, shape.heads, BLOCK_TOKENS, shape.head_size)
        self._memory = (
            MappedArray(size, shape.dtype, "the prefix cache's blocks", in_order=True) if self.capacity else None
        )
        self._blocks: OrderedDict[bytes, int] = OrderedDict()  # the one used longest ago comes first

    def __len__(self) -> int:
        """Return the number of blocks held."""
        return len(self._blocks)

    @property
    def used_bytes(self) -> int:
        """Memory of the blocks held."""
        return len(self) * self.block_bytes

    def match(self, keys: Sequence[bytes]) -> int:
        """Return how many of these blocks are held, from the first on."""
        for count, key in enumerate(keys):
            if key not in self._blocks:
                return count
        return len(keys)

    def load(self, keys: Sequence[bytes], row: int) -> None:
        """Copy blocks, all of which are held, to the start of a row."""
        for index, key in enumerate(keys):
            self._rows.tokens(row, *_span(index))[:] = self._block(key)
        self._touch(keys)

    def store(self, keys: Sequence[bytes], row: int) -> None:
        """Copy those blocks of a row's start that are not held yet."""
        if not self.capacity:
            return
        keys = keys[: self.capacity]
        held = [key for key in keys if key in self._blocks]
        self._touch(held)
        for index, key in enumerate(keys):
            if key not in self._blocks:
                self._blocks[key] = self._take()
                self._block(key)[:] = self._rows.tokens(row, *_span(index))
        self._touch(keys)

    def _block(self, key: bytes) -> npt.NDArray[Any]:
        assert self._memory is not None  # noqa: S101 - a held block
        block: npt.NDArray[Any] = self._memory.array[self._blocks[key]]
        return block

    def _take(self) -> int:
        """Return the place of a new block."""
        if len(self._blocks) < self.capacity:
            return len(self._blocks)  # blocks are only ever replaced, so the places in use are the first ones
        return self._blocks.popitem(last=False)[1]

    def _touch(self, keys: Sequence[bytes]) -> None:
        """Note the use of blocks; a block is older than the one before it, without which it cannot be found."""
        for key in reversed(keys):
            self._blocks.move_to_end(key)


def _span(index: int) -> tuple[int, int]:
    return index * BLOCK_TOKENS, (index + 1) * BLOCK_TOKENS
