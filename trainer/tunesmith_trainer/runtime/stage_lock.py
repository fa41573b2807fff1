"""A lock that lets one stage at a time run in a work folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.local.locks import try_lock

log = logging.getLogger(__name__)

_WAIT_SECONDS = 150.0  # a little longer than the time that a pod gets to terminate
_POLL_SECONDS = 0.5


@contextmanager
def stage_lock(path: Path, seconds: float = _WAIT_SECONDS) -> Iterator[None]:
    """Hold the lock of a work folder. It is released when this process exits, however it exits.

    On a file system without locks, a warning is logged and the stage runs without one. In a cluster that is safe: a Job
    starts a pod only after the previous pod with the same index has ended.

    Args:
        path: The lock file. It is created, and not deleted.
        seconds: How long to wait for another holder.

    Raises:
        StageError: INTERRUPTED: another process held the lock all that time.
        OSError: The file cannot be created.
    """
    with path.open("a") as file:
        deadline = time.monotonic() + seconds
        is_logged = False
        try:
            while not try_lock(file):
                if time.monotonic() > deadline:
                    raise StageError(
                        Reason.INTERRUPTED,
                        f"{path.parent} is in use by another process",
                        "Wait for it to end, or stop it",
                    )
                if not is_logged:
                    log.info("waiting for another process to leave %s", path.parent)
                    is_logged = True
                time.sleep(_POLL_SECONDS)
        except OSError as error:
            log.warning("%s cannot be locked (%s); continuing without a lock", path, error.strerror)
        yield
