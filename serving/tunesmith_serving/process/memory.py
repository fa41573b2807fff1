"""Huge pages for the model's weights."""

import os
import sys

_TUNABLES = "GLIBC_TUNABLES"
_FIRST_GLIBC = (2, 35)


def ask_for_huge_pages() -> None:
    """Restart this process with glibc set to ask for huge pages, unless GLIBC_TUNABLES is set already.

    Each step reads all weights once, and with pages of 4 KiB part of that time is spent on address translation. The
    kernel uses huge pages by itself only if it is set to "always", and glibc reads its settings
    (https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html) only at the start.
    """
    if _TUNABLES in os.environ or not sys.platform.startswith("linux") or _glibc() < _FIRST_GLIBC:
        return
    os.environ[_TUNABLES] = "glibc.malloc.hugetlb=1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the very command of this process


def _glibc() -> tuple[int, ...]:
    """Return glibc's version; (0,) with another C library."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, OSError, ValueError):
        return (0,)
    parts = version.split(".")
    return tuple(int(part) for part in parts) if name == "glibc" and all(map(str.isdigit, parts)) else (0,)
