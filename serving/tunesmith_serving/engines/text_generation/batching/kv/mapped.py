"""Arrays in anonymous memory: pages are taken when they are written, and can be given back one range at a time."""

import contextlib
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_serving.runtime.errors import MemoryShortageError

_DONT_NEED = getattr(mmap, "MADV_DONTNEED", None)
_SMALL_PAGES = getattr(mmap, "MADV_NOHUGEPAGE", None)
_NO_RESERVE = 0x4000  # of Linux: an address range may be larger than the memory


class MappedArray:
    """An array that is zero where it was never written.

    Attributes:
        array: The array.
    """

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike, what: str, *, in_order: bool = False) -> None:
        """Reserve the addresses.

        Args:
            shape: Shape of the array.
            dtype: Type of its elements.
            what: What it holds, for the error.
            in_order: Whether it is written from its beginning on. A huge page elsewhere would take 2 MiB for the first
                token that is written to it.

        Raises:
            MemoryShortageError: The system does not give out that many addresses.
        """
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        try:
            self._map = _reserve(max(size, 1))
        except (OSError, OverflowError, MemoryError):
            raise MemoryShortageError(
                f"{what} need {size / 2**30:.1f} GiB of addresses, which the system does not give; "
                "lower maxBatchSize or contextLength"
            ) from None
        if _SMALL_PAGES is not None and not in_order:
            with contextlib.suppress(OSError):  # a kernel without huge pages
                self._map.madvise(_SMALL_PAGES)
        self.array: npt.NDArray[Any] = np.frombuffer(self._map, dtype, int(np.prod(shape, dtype=np.int64))).reshape(
            shape
        )
        self._address = self.array.ctypes.data

    def give_back(self, part: npt.NDArray[Any]) -> None:
        """Return the whole pages of a contiguous part of the array to the system; they read as zero, or as before."""
        if _DONT_NEED is None:
            return
        begin = part.ctypes.data - self._address
        first = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
        length = (begin + part.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - first
        if length > 0:
            self._map.madvise(_DONT_NEED, first, length)


def _reserve(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return mmap.mmap(-1, size)
    return mmap.mmap(
        -1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", _NO_RESERVE)
    )
