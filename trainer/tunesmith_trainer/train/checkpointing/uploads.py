"""Checkpoints kept in an object store while training goes on, and brought back from there."""

from __future__ import annotations

import logging
import re
import shutil
import threading
from types import TracebackType
from typing import Self

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.storage.work_store import WorkStore
from tunesmith_trainer.train.checkpointing.checkpoints import checkpoints, is_sealed, step_of
from tunesmith_trainer.train.checkpointing.outbox import Outbox

log = logging.getLogger(__name__)

_POLL_SECONDS = 2.0
_NAME = re.compile(r"checkpoint-(\d+)(?:\.(\d+))?$")


class Checkpoints:
    """A run's checkpoints in a store. Each machine keeps the part that it wrote; a checkpoint is all parts of it.

    Attributes:
        store: The store.
        machine: Number of this machine.
    """

    def __init__(self, store: WorkStore, machine: int = 0, machines: int = 1) -> None:
        self.store = store
        self.machine = machine
        self._machines = machines

    def steps(self) -> list[int]:
        """Return the steps of which all parts are kept, oldest first."""
        return self._whole(self._parts())

    def newest_part(self) -> int:
        """Return the newest step of which this machine's part is kept; 0 when there is none."""
        return max((step for step, machine in self._parts() if machine == self.machine), default=0)

    def bring(self) -> None:
        """Bring the newest whole checkpoint into the work folder, with the log up to it.

        Raises:
            StageError: SOURCE_UNAVAILABLE: the store cannot be read just now.
        """
        for step in reversed(self.steps()):
            try:
                if all(self.store.get(_name(step, machine)) for machine in range(self._machines)):
                    return
                problem = "a part of it is gone"
            except StageError as error:
                if error.reason is not Reason.OUTPUT_FAILED:
                    raise
                problem = error.message
            folder = self.store.work.checkpoints / _name(step, 0)
            log.warning("%s/%s cannot be used: %s", self.store.uri, folder.name, problem)
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, outbox: Outbox) -> None:
        """Keep this machine's part of the checkpoint in an outbox.

        Raises:
            StageError: OUTPUT_FAILED: it cannot be written.
        """
        work = self.store.work
        (checkpoint,) = checkpoints(outbox.folder / work.checkpoints.relative_to(work.root))
        self.store.put_folder(_name(step_of(checkpoint), self.machine), outbox.folder)

    def remove_old(self, keep: int) -> None:
        """Remove what is older than the newest whole checkpoints, of which `keep` stay; machine 0 does it for all."""
        parts = self._parts()
        whole = self._whole(parts)
        if self.machine != 0 or len(whole) <= keep:
            return
        for step, machine in sorted(parts):
            if step < whole[-keep]:
                self.store.remove(_name(step, machine))

    def remove_all(self) -> None:
        """Remove what this machine has kept; machine 0 removes all. What cannot be removed is left, with a warning."""
        try:
            for step, machine in sorted(self._parts()):
                if self.machine in (0, machine):
                    self.store.remove(_name(step, machine))
        except StageError as problem:
            log.warning("checkpoints that are of no use any more are left: %s", problem)

    def _whole(self, parts: set[tuple[int, int]]) -> list[int]:
        return sorted({step for step, _ in parts if all((step, n) in parts for n in range(self._machines))})

    def _parts(self) -> set[tuple[int, int]]:
        """Return the (step, machine) of all parts that are kept."""
        found = (_NAME.match(name) for name in self.store.names())
        return {(int(match[1]), int(match[2] or 0)) for match in found if match}


class CheckpointUploads:
    """Keeps the checkpoints that come into the outbox, from a thread. Used as a context manager.

    Training does not wait for it: checkpoints that come while one is being kept are passed over. When training ends
    before its time, the newest one is kept too. One that cannot be written is a warning, as training can still come to
    its end.
    """

    def __init__(self, kept: Checkpoints, keep: int) -> None:
        """Make it.

        Args:
            kept: Where checkpoints are kept.
            keep: How many.
        """
        self._kept = kept
        self._keep = keep
        self._outbox = Outbox(kept.store.work)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)

    def __enter__(self) -> Self:
        self._outbox.clear()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if kind is not None:
            self._empty()
            self._keep_newest()

    def _run(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            self._empty()

    def _empty(self) -> None:
        """Keep what is in the outbox."""
        if not self._outbox.folder.exists():
            return
        try:
            self._kept.keep(self._outbox)
            self._kept.remove_old(self._keep)
        except StageError as problem:
            log.warning("a checkpoint cannot be kept: %s", problem)
        self._outbox.clear()

    def _keep_newest(self) -> None:
        """Keep the newest checkpoint, unless it is kept already."""
        found = [path for path in checkpoints(self._kept.store.work.checkpoints) if is_sealed(path)]
        try:
            is_kept = not found or step_of(found[-1]) <= self._kept.newest_part()
        except StageError as problem:
            log.warning("%s cannot be kept: %s", found[-1].name, problem)
            return
        if not is_kept:
            self._outbox.put(found[-1], self._kept.machine)
            self._empty()


def _name(step: int, machine: int) -> str:
    return f"checkpoint-{step}" + (f".{machine}" if machine else "")
