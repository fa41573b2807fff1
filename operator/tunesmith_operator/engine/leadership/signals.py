"""Handlers of SIGTERM and SIGINT, which shut the operator down gracefully."""

from __future__ import annotations

import asyncio
import signal
import threading


def handle(stop: asyncio.Event) -> None:
    """Let both signals set an event of the running loop, replacing other handlers."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
