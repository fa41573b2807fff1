"""Checkpoints kept in an object store while training goes on, and brought back from there."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tunesmith_trainer.config import Reason, Stage, TrainerError
from tunesmith_trainer.train.checkpoints import checkpoints, damage, is_sealed, step_of
from tunesmith_trainer.work_store import WorkStore

log = logging.getLogger(__name__)

_POLL_SECONDS = 2.0


def bring_checkpoint(store: WorkStore) -> None:
    """Bring the newest whole checkpoint into the work folder, with the log up to it.

    Raises:
        TrainerError: SOURCE_UNAVAILABLE: the store cannot be read just now.
    """
    for name in reversed(kept_checkpoints(store)):
        try:
            store.get(name)
            problem = damage(store.work.checkpoints / name)
        except TrainerError as error:
            if error.reason is not Reason.OUTPUT_FAILED:
                raise
            problem = error.message
        if problem is None:
            return
        log.warning("%s/%s cannot be used: %s", store.uri, name, problem)
        shutil.rmtree(store.work.checkpoints / name, ignore_errors=True)


def kept_checkpoints(store: WorkStore) -> list[str]:
    """Return the names of the checkpoints in a store, oldest first."""
    found = [Path(name) for name in store.names() if name.removeprefix("checkpoint-").isdecimal()]
    return [path.name for path in sorted(found, key=step_of)]


def remove_checkpoints(store: WorkStore, keep: int = 0) -> None:
    """Remove all but the newest checkpoints of a store."""
    names = kept_checkpoints(store)
    for name in names[: len(names) - keep]:
        store.remove(name)


class CheckpointUploads:
    """Keeps each new checkpoint, from a thread. Used as a context manager; on leaving it, the newest one is kept.

    Training does not wait for it: where checkpoints come faster than they can be written, some are passed over. One
    that cannot be written is a warning, as training can still come to its end.
    """

    def __init__(self, store: WorkStore, keep: int) -> None:
        """Make it.

        Args:
            store: Where checkpoints are kept.
            keep: How many.
        """
        self._store = store
        self._keep = keep
        self._last = max((step_of(Path(name)) for name in kept_checkpoints(store)), default=0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if kind is not None:
            self._keep_newest()

    def _run(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            self._keep_newest()

    def _keep_newest(self) -> None:
        """Keep the newest checkpoint, unless it is kept already."""
        work = self._store.work
        sealed = [path for path in checkpoints(work.checkpoints) if is_sealed(path) and step_of(path) > self._last]
        if not sealed:
            return
        newest = sealed[-1]
        try:
            files = [path for path in sorted(newest.rglob("*")) if path.is_file()]
            files.append(work.stage(Stage.TRAIN) / "inputs.json")
            named = {path.relative_to(work.root).as_posix(): path for path in files}
            log_copy = shutil.copyfile(work.training_log, work.root / ".training_log.outgoing")  # it goes on growing
            named[work.training_log.relative_to(work.root).as_posix()] = log_copy
            self._store.put(newest.name, named)
            self._last = step_of(newest)
            remove_checkpoints(self._store, self._keep)
        except FileNotFoundError:  # removed for a newer one, which is next
            log.debug("%s went before it was kept", newest.name)
        except TrainerError as problem:
            log.warning("%s cannot be kept: %s", newest.name, problem)
