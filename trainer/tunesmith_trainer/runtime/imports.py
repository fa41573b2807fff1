"""Importing torch and what comes with it: three thousand modules."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Keep the garbage collector away from what is imported within, now and later.

    It all stays as long as the process does. Looking for garbage in it takes a sixth of the time of importing, and the
    last look, when the process ends, another second.

    Only for a time when nothing large has been made yet: garbage that is there by then, such as a model that was used
    up, is never found either.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
