"""One stage at a time in a work folder: a lock that ends with its holder at the latest."""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith_api.failures import Reason, StageError

log = logging.getLogger(__name__)

_WAIT_SECONDS = 150.0  # a little longer than a pod that is told to stop may take
_POLL_SECONDS = 0.5


@contextmanager
def held(path: Path, seconds: float = _WAIT_SECONDS) -> Iterator[None]:
    """Hold a lock on a file.

    File systems that have no locks are worked on without one: in a cluster a Job starts no pod before the last one of
    its place has ended, so this only guards against what happens beside that.

    Args:
        path: The file; it is made, and stays.
        seconds: How long to wait for another holder.

    Raises:
        StageError: INTERRUPTED: somebody else holds it for longer than that.
        OSError: The file cannot be made.
    """
    with path.open("a") as file:
        deadline = time.monotonic() + seconds
        said = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StageError(
                        Reason.INTERRUPTED, f"another process works in {path.parent}", "Wait for it to end, or stop it"
                    ) from None
                if not said:
                    log.info("waiting for another process to leave %s", path.parent)
                    said = True
                time.sleep(_POLL_SECONDS)
            except OSError as error:
                log.warning("%s cannot be locked (%s); going on without", path, error.strerror)
                break
        yield
