"""Uploads checkpoints to an object store during training, and downloads them to resume."""

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


class StoredCheckpoints:
    """A run's checkpoints in an object store. Each node uploads its own shard; a checkpoint is all its shards.

    Attributes:
        store: The store.
        node: Index of this node.
    """

    def __init__(self, store: WorkStore, node: int = 0, nodes: int = 1) -> None:
        self.store = store
        self.node = node
        self._nodes = nodes

    def steps(self) -> list[int]:
        """Return the steps whose shards are all in the store, oldest first."""
        return self._whole(self._shards())

    def newest_shard(self) -> int:
        """Return the newest step whose shard of this node is in the store; 0 if there is none."""
        return max((step for step, node in self._shards() if node == self.node), default=0)

    def download(self) -> None:
        """Download the newest whole checkpoint into the work folder, with the training log up to it.

        Raises:
            StageError: SOURCE_UNAVAILABLE: the store cannot be read at the moment.
        """
        for step in reversed(self.steps()):
            try:
                if all(self.store.download_snapshot(_name(step, node)) for node in range(self._nodes)):
                    return
                problem = "a part of it is gone"
            except StageError as error:
                if error.reason is not Reason.OUTPUT_FAILED:
                    raise
                problem = error.message
            folder = self.store.work.checkpoints / _name(step, 0)
            log.warning("%s/%s cannot be used: %s", self.store.uri, folder.name, problem)
            shutil.rmtree(folder, ignore_errors=True)

    def upload(self, outbox: Outbox) -> None:
        """Upload the checkpoint in an outbox, or this node's shard of it.

        Raises:
            StageError: OUTPUT_FAILED: it cannot be uploaded.
        """
        work = self.store.work
        (checkpoint,) = checkpoints(outbox.folder / work.checkpoints.relative_to(work.root))
        self.store.upload_folder(_name(step_of(checkpoint), self.node), outbox.folder)

    def remove_old(self, keep: int) -> None:
        """Delete what is older than the `keep` newest whole checkpoints. Only node 0 does it, for all nodes."""
        shards = self._shards()
        whole = self._whole(shards)
        if self.node != 0 or len(whole) <= keep:
            return
        for step, node in sorted(shards):
            if step < whole[-keep]:
                self.store.delete_snapshot(_name(step, node))

    def remove_all(self) -> None:
        """Delete this node's shards; node 0 deletes all. If that fails, log a warning and leave the rest."""
        try:
            for step, node in sorted(self._shards()):
                if self.node in (0, node):
                    self.store.delete_snapshot(_name(step, node))
        except StageError as problem:
            log.warning("checkpoints that are no longer needed cannot be deleted: %s", problem)

    def _whole(self, shards: set[tuple[int, int]]) -> list[int]:
        return sorted({step for step, _ in shards if all((step, n) in shards for n in range(self._nodes))})

    def _shards(self) -> set[tuple[int, int]]:
        """Return (step, node) of every shard in the store."""
        found = (_NAME.match(name) for name in self.store.snapshots())
        return {(int(match[1]), int(match[2] or 0)) for match in found if match}


class CheckpointUploads:
    """Uploads the checkpoints from the outbox in a thread. Used as a context manager.

    Training does not wait: checkpoints that are saved during an upload are skipped. If training fails or is
    interrupted, the newest checkpoint is uploaded too. A failed upload is only a warning, as training can still
    complete.
    """

    def __init__(self, stored: StoredCheckpoints, keep: int) -> None:
        """Create the uploader. Entering the context starts its thread.

        Args:
            stored: Where checkpoints are uploaded to.
            keep: How many checkpoints to keep there.
        """
        self._stored = stored
        self._keep = keep
        self._outbox = Outbox(stored.store.work)
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
            self._upload_outbox()
            self._upload_newest()

    def _run(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            self._upload_outbox()

    def _upload_outbox(self) -> None:
        """Upload the checkpoint in the outbox, if there is one."""
        if not self._outbox.folder.exists():
            return
        try:
            self._stored.upload(self._outbox)
            self._stored.remove_old(self._keep)
        except StageError as problem:
            log.warning("a checkpoint cannot be uploaded: %s", problem)
        self._outbox.clear()

    def _upload_newest(self) -> None:
        """Upload the newest checkpoint, unless it is in the store already."""
        found = [path for path in checkpoints(self._stored.store.work.checkpoints) if is_sealed(path)]
        try:
            is_stored = not found or step_of(found[-1]) <= self._stored.newest_shard()
        except StageError as problem:
            log.warning("%s cannot be uploaded: %s", found[-1].name, problem)
            return
        if not is_stored:
            self._outbox.put(found[-1], self._stored.node)
            self._upload_outbox()


def _name(step: int, node: int) -> str:
    return f"checkpoint-{step}" + (f".{node}" if node else "")
