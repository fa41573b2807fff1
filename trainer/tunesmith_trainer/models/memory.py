"""How much memory a model may take, and giving it back to the system."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith_trainer.models.weights import WeightFiles

_PER_BYTE = 1.4
_FIXED = 3 * 10**9
# Of these the libraries take about 0.8 GB; the rest is for activations, logits and keys.
_BESIDE_WEIGHTS = int(1.8e9)
_SMALL = 5 * 10**8

# Of glibc's malloc.h, and the largest that its threshold grows to.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MOST_REUSED = 32 << 20
_RETURN_FROM = 1 << 20


def bound(stored: int) -> int:
    """Return the memory that publishing a model may take with all its processes, in bytes.

    Args:
        stored: Size of the weights in the type in which they are stored.
    """
    return int(_PER_BYTE * stored) + _FIXED


def fits_as_float32(files: WeightFiles) -> bool:
    """Return whether the bound leaves room for a model's weights in fp32.

    While they are converted, the pages of the files that were read count as well.
    """
    return 4 * files.parameters + files.bytes + _BESIDE_WEIGHTS <= bound(files.bytes)


def is_small(folder: Path) -> bool:
    """Return whether a model takes so little memory that all processes can have their libraries loaded beside it."""
    return 4 * WeightFiles(folder).parameters <= _SMALL


@contextmanager
def freed_at_once() -> Iterator[None]:
    """Let memory of freed tensors go back to the system at once.

    The C library reuses what was freed in blocks of up to 32 MiB. When tensors come and go while others stay, as when
    partitions are cut out of a model's layers, that grows to the size of all of them.
    """
    _tune(_RETURN_FROM, _RETURN_FROM)
    try:
        yield
    finally:
        _tune(_MOST_REUSED, 2 * _MOST_REUSED)  # what it comes to by itself, for the speed of training


def _tune(separate: int, unused: int) -> None:
    """Set from which size on blocks are separate, and how much unused memory is kept, in bytes."""
    try:
        tune = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return
    tune(_M_MMAP_THRESHOLD, separate)
    tune(_M_TRIM_THRESHOLD, unused)


def give_back() -> None:
    """Free what nothing refers to any more, and return it to the system. The C library would keep much of it."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return
