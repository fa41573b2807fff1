"""The keys and values of running requests: one row of each layer's buffers per request."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_serving.engines.text_generation.batching.kv.mapped import MappedArray

KEPT_BYTES = 64 << 20
"""Memory of free rows that is kept for the next requests: new pages cost a small model a few percent of its time."""


@dataclass(frozen=True)
class KvShape:
    """What the keys and values of a model look like.

    Attributes:
        parts: Buffers: the keys and the values of each layer.
        heads: Key-value heads.
        head_size: Numbers per head and token.
        dtype: Their type.
    """

    parts: int
    heads: int
    head_size: int
    dtype: npt.DTypeLike

    @property
    def token_bytes(self) -> int:
        """Memory of the keys and values of one token."""
        return self.parts * self.heads * self.head_size * np.dtype(self.dtype).itemsize


class KeyValueRows:
    """Buffers of shape [parts, rows, heads, context, head size], of which only what was written takes memory.

    Attributes:
        count: Number of rows.
        context: Tokens that a row can hold.
        shape: Sizes of the model.
    """

    def __init__(self, shape: KvShape, count: int, context: int) -> None:
        """Reserve the addresses.

        Raises:
            MemoryShortageError: The system does not give out that many.
        """
        self.shape, self.count, self.context = shape, count, context
        size = (shape.parts, count, shape.heads, context, shape.head_size)
        self._memory = MappedArray(size, shape.dtype, f"keys and values of {count} slots of {context} tokens")
        self._array = self._memory.array
        self._kept: dict[int, int] = {}
        self._written: dict[int, int] = {}

    def view(self, part: int, first: int, count: int) -> npt.NDArray[Any]:
        """Return successive rows of one buffer, shape [count, heads, context, head size]."""
        rows: npt.NDArray[Any] = self._array[part, first : first + count]
        return rows

    def bind(self, binding: Any, names: tuple[str, str], part: int, first: int, count: int) -> None:  # noqa: ANN401
        """Bind successive rows of one buffer, as input and as output.

        Args:
            binding: onnxruntime.IOBinding.
            names: The input and the output.
            part: The buffer.
            first: The first row.
            count: Number of rows.
        """
        rows = self.view(part, first, count)
        bound = ("cpu", 0, rows.dtype.type, rows.shape, rows.ctypes.data)
        binding.bind_input(names[0], *bound)
        binding.bind_output(names[1], *bound)

    def take(self, row: int) -> None:
        """Begin to use a free row."""
        self._written[row] = self._kept.pop(row, 0)

    def move(self, source: int, target: int, length: int) -> None:
        """Move the first `length` tokens of a row to a free one; the first one is free then."""
        self.take(target)
        self._array[:, target, :, :length] = self._array[:, source, :, :length]
        self.free(source, length)

    def free(self, row: int, length: int) -> None:
        """Free a row that holds `length` tokens; its memory goes back to the system unless little is kept."""
        written = max(self._written.pop(row, 0), length)
        if (sum(self._kept.values()) + written) * self.shape.token_bytes <= KEPT_BYTES:
            self._kept[row] = written
            return
        for part in range(self.shape.parts):
            self._memory.give_back(self._array[part, row])

    def tokens(self, row: int, start: int, end: int) -> npt.NDArray[Any]:
        """Return a view of the keys and values of some tokens, shape [parts, heads, tokens, head size]."""
        found: npt.NDArray[Any] = self._array[:, row, :, start:end]
        return found
