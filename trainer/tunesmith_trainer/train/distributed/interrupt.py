"""Being told to stop: at the end of a step while training, at once otherwise."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tunesmith_api.failures import EXIT_CODES, Reason
from tunesmith_api.local.locks import is_locked

LAUNCHER_LOCK = "launcher.lock"
"""File in the run folder of the launcher, which holds a lock on it while it lives."""

STEPPED = "stepped"
"""File in the launcher's run folder: a step was completed."""

_POLL_SECONDS = 0.2


class Interrupt:
    """Whether training is to stop.

    Attributes:
        requested: Whether it is.
        stepping: Whether training looks at `requested` after each step; otherwise an interrupt takes effect at once.
        stepped: Whether a step was completed, so that all machines of the run have been there.
    """

    def __init__(self) -> None:
        self.requested = False
        self.stepping = False
        self.stepped = False
        self._folder: Path | None = None

    def note_step(self) -> None:
        """Note that a step was completed, also for the launcher, which may have to tell how we ended."""
        if not self.stepped and self._folder is not None:
            (self._folder / STEPPED).touch()
        self.stepped = True

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT as interrupts. The second one, and one outside of training, stops at once.

        Raises:
            KeyboardInterrupt: By a signal that is to stop at once.
        """

        def handle(number: int, frame: FrameType | None) -> None:
            if not self.stepping or self.requested:
                raise KeyboardInterrupt
            self.requested = True

        before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def watch(self, folder: Path) -> None:
        """Watch from a thread for the launcher's wish to stop, and for its end.

        Args:
            folder: The launcher's run folder; a file `interrupt` appears there, or the lock is no longer held.
        """
        self._folder = folder
        threading.Thread(target=self._watch, args=(folder,), daemon=True).start()

    def _watch(self, folder: Path) -> None:
        pause = threading.Event()
        while not pause.wait(_POLL_SECONDS):
            if not is_locked(folder / LAUNCHER_LOCK):
                # Nobody is left who would know how this ends, and another launcher may start on the same folder.
                os._exit(EXIT_CODES[Reason.INTERRUPTED])
            if (folder / "interrupt").exists():
                if not self.stepping:
                    os._exit(EXIT_CODES[Reason.INTERRUPTED])
                self.requested = True
