"""SIGTERM: interrupts the stage, and ends the process before the container's grace period is over."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

from tunesmith_api.contract import GRACE_SECONDS
from tunesmith_api.failures import EXIT_CODES, Reason, StageError
from tunesmith_trainer.runtime.termination_message import write_failure

_MARGIN = 10.0  # seconds before SIGKILL at which the process exits by itself, so that its exit code says why


class Terminated(BaseException):
    """SIGTERM was received. A BaseException, like KeyboardInterrupt, so `except Exception` does not catch it."""


def install_sigterm_handler() -> None:
    """Raise `Terminated` in the main thread on SIGTERM, from now on.

    Needed also because the kernel delivers to the first process of a container only signals that it has a handler for.
    If the grace period is known, the process exits shortly before its end, whatever it is doing then.
    """
    grace = float(os.environ.get(GRACE_SECONDS) or 0)
    if grace > _MARGIN:
        _exit_after_sigterm(grace - _MARGIN)

    def handle(number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, handle)


def interrupted() -> StageError:
    """Return the error of a stage that received SIGTERM."""
    return StageError(Reason.INTERRUPTED, "stopped before it was complete", "Run it again to resume")


def _exit_after_sigterm(seconds: float) -> None:
    """Watch for SIGTERM in a thread, and exit the process `seconds` after it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # The C handler writes to it at once, even while Python waits for a library call to return.
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        while signal.SIGTERM not in os.read(reader, 1):
            pass
        threading.Event().wait(seconds)
        write_failure(interrupted())
        os._exit(EXIT_CODES[Reason.INTERRUPTED])

    threading.Thread(target=watch, name="sigterm", daemon=True).start()
