"""How much memory a model may take, and giving it back to the system."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

from tunesmith_trainer.models.weights import WeightFiles

_PER_BYTE = 1.4
_FIXED = 3 * 10**9
# Of these the libraries take about 0.8 GB; the rest is for activations, logits and keys.
_BESIDE_WEIGHTS = int(1.8e9)
_SMALL = 5 * 10**8


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


def give_back() -> None:
    """Free what nothing refers to any more, and return it to the system. The C library would keep much of it."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return
