"""Imports of large libraries such as torch: thousands of modules."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Import large libraries without garbage collection, and exclude what was imported from later collections.

    For the time that a process takes to start: imported modules live as long as the process, and searching them for
    garbage takes a sixth of the time of importing torch and its companions, and another second when the process exits.
    Remove this and its call sites when these imports take less than a second, or CPython freezes modules by itself.

    Use it only before anything large exists: garbage that exists then, such as a model that is no longer used, is never
    collected.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
