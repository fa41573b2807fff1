"""SIGTERM and SIGHUP as KeyboardInterrupt, so that they stop child processes the way Ctrl-C does."""

from __future__ import annotations

import signal
from types import FrameType


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def raise_keyboard_interrupt() -> None:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt from now on."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
