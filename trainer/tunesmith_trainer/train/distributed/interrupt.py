"""Interruption of training: after the current step while training, at once otherwise."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tunesmith_api.failures import EXIT_CODES, Reason
from tunesmith_api.local.locks import is_locked
from tunesmith_trainer.train.distributed.run_folder import RunFolder

_POLL_SECONDS = 0.2


class Interrupt:
    """A request to stop training.

    Attributes:
        requested: Whether training is to stop.
        stepping: Whether training checks `requested` after each step. Otherwise an interrupt takes effect at once.
        stepped: Whether a step is complete, so that all nodes of the run have been reached.
    """

    def __init__(self) -> None:
        self.requested = False
        self.stepping = False
        self.stepped = False
        self._folder: RunFolder | None = None

    def note_step(self) -> None:
        """Record that a step is complete, also for the launcher, which may have to explain a failure."""
        if not self.stepped and self._folder is not None:
            self._folder.stepped.touch()
        self.stepped = True

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Treat SIGTERM and SIGINT as interrupts. A second signal, and one outside of training, stops at once.

        Raises:
            KeyboardInterrupt: On a signal that stops at once.
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

    def watch(self, folder: RunFolder) -> None:
        """Watch, in a thread of a worker, for an interrupt from the launcher and for the launcher's death.

        Args:
            folder: The run folder. The launcher creates `interrupt` there, and holds `lock` while it lives.
        """
        self._folder = folder
        threading.Thread(target=self._watch, args=(folder,), daemon=True).start()

    def _watch(self, folder: RunFolder) -> None:
        pause = threading.Event()
        while not pause.wait(_POLL_SECONDS):
            if not is_locked(folder.lock):
                # No launcher is left to read the result, and another launcher may start in the same work folder.
                os._exit(EXIT_CODES[Reason.INTERRUPTED])
            if folder.interrupt.exists():
                if not self.stepping:
                    os._exit(EXIT_CODES[Reason.INTERRUPTED])
                self.requested = True
