"""SIGTERM and SIGHUP as an exception, so that they end children the way Ctrl-C does."""

from __future__ import annotations

import signal
from types import FrameType


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def catch() -> None:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt from now on."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
