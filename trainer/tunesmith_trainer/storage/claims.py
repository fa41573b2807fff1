"""One process at a time writes a folder, whatever file system or object store it is in.

A process writes a claim beside the folder, and then looks for others. If there is one, it takes its own back and tries
again later. Of two processes one has looked after the other has written, so never do both go on. That takes no locks,
which network file systems and stores need not have; only that what is written is seen by whoever looks afterwards.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.storage import filesystems as storage
from tunesmith_trainer.storage.errors import translate_errors
from tunesmith_trainer.storage.files import write_atomic
from tunesmith_trainer.storage.uris import local_path

log = logging.getLogger(__name__)

RENEWED = 20.0
"""Seconds after which a claim is written again, with another content."""
STALE = 180.0
"""Seconds without a change after which the process that has a claim counts as dead."""
_AGAIN = (0.5, 3.0)
_ATTEMPTS = 20


def claims_of(uri: str) -> str:
    """Return the folder of the claims on a folder, which is beside it."""
    parent, _, name = uri.rstrip("/").rpartition("/")
    return f"{parent}/.{name}.claims" if parent else f".{name}.claims"


@contextmanager
def claimed(uri: str, owner: str, is_done: Callable[[], bool], *, stale: float = STALE) -> Iterator[bool]:
    """Wait until no other process has a claim on a folder, and keep one within the context.

    Args:
        uri: The folder, a path or URI.
        owner: Who claims it. A process that was killed and runs again has the same owner, and need not wait.
        is_done: Returns whether the folder is complete, so that nothing is left to do.
        stale: Seconds after which a claim that does not change is that of a dead process.

    Yields:
        Whether this process has the claim; False if the folder is complete.

    Raises:
        StageError: OUTPUT_FAILED: a claim cannot be written.
    """
    folder = claims_of(uri)
    seen: dict[str, tuple[bytes, float]] = {}
    told = False
    while not is_done():
        _write(folder, owner)
        others = _others(folder, owner, seen, stale)
        if not others:
            break
        _release(folder, owner)
        if not told:
            log.info("%s is being written by another job; waiting for it", uri)
            told = True
        time.sleep(random.uniform(*_AGAIN))  # noqa: S311 - not for secrets
    else:
        yield False
        return
    stop = threading.Event()
    renewal = threading.Thread(target=_renew, args=(folder, owner, stop), name="tunesmith-claim", daemon=True)
    renewal.start()
    try:
        yield True
    finally:
        stop.set()
        renewal.join()
        _release(folder, owner)


def _others(folder: str, owner: str, seen: dict[str, tuple[bytes, float]], stale: float) -> list[str]:
    """Return who else has a claim that is alive; `seen` is what was there before, and since when."""
    alive = []
    storage.open_filesystem(folder)[0].invalidate_cache()
    for name, size in storage.list_folder(folder, Reason.OUTPUT_FAILED).items():
        if name == owner or not size or name.startswith("."):
            continue
        content = b""
        with suppress(StageError), storage.open_source(f"{folder}/{name}", Reason.OUTPUT_FAILED) as file:
            content = file.read()
        if not content:
            continue  # just taken back
        if seen.get(name, (b"", 0.0))[0] != content:
            seen[name] = content, time.monotonic()
        if time.monotonic() - seen[name][1] >= stale:
            log.warning("%s/%s is of a process that is gone", folder, name)
            _release(folder, name)
            continue
        alive.append(name)
    return alive


def _write(folder: str, owner: str, content: bytes | None = None) -> None:
    content = uuid.uuid4().bytes if content is None else content
    with translate_errors(folder, Reason.OUTPUT_FAILED, "write"):
        if (local := local_path(folder)) is not None:
            _write_local(local, owner, content)
            return
        fs, root = storage.open_filesystem(folder)
        with fs.open(f"{root}/{owner}", "wb") as file:
            file.write(content)


def _write_local(folder: Path, owner: str, content: bytes) -> None:
    """Write a file that appears whole, as in an object store: an empty one is no claim."""
    for attempt in range(_ATTEMPTS):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            write_atomic(folder / owner, content)
            return
        except FileNotFoundError:  # another process has just removed the folder, which was empty
            if attempt == _ATTEMPTS - 1:
                raise


def _release(folder: str, owner: str) -> None:
    """Take a claim back: empty first, as some stores allow writing but not removing."""
    with suppress(StageError):
        _write(folder, owner, b"")
    with suppress(StageError):
        storage.remove(folder, [owner])
    if (local := local_path(folder)) is not None:
        with suppress(OSError):
            local.rmdir()  # the last one


def _renew(folder: str, owner: str, stop: threading.Event) -> None:
    while not stop.wait(RENEWED):
        with suppress(StageError):
            _write(folder, owner)
