"""The next checkpoint to upload to an object store: training puts it here, the launcher uploads it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tunesmith_api.contract import WORK_URI
from tunesmith_api.work_folder import STAGE_INPUTS, Stage, WorkFolder
from tunesmith_trainer.runtime.measure import attempts_file
from tunesmith_trainer.storage.files import link_tree
from tunesmith_trainer.train.checkpointing.shards import CheckpointShard


class Outbox:
    """Holds hard links to one checkpoint (or this node's shard), so that rotation may remove the original.

    Attributes:
        folder: Holds the files by their paths in the work folder. Absent while the outbox is empty.
    """

    def __init__(self, work: WorkFolder) -> None:
        self.folder = work.root / ".outgoing"
        self._half = work.root / ".outgoing.tmp"
        self._work = work

    def offer(self, checkpoint: Path, shard: CheckpointShard) -> None:
        """Put a checkpoint in if all nodes have uploaded the previous one. A collective operation: all ranks call it.

        So all nodes upload the same checkpoints, however fast each of them is.
        """
        is_free = not (shard.is_writer and self.folder.exists())
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            import torch  # here, as the launcher, which only uploads, does not need it

            answers = [True] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(answers, is_free)
            is_free = all(answers)
        if is_free and shard.is_writer:
            self.put(checkpoint, shard.index)

    def put(self, checkpoint: Path, node: int) -> None:
        """Put this node's shard of a checkpoint in. Node 0 adds what the stage needs to resume."""
        work, half = self._work, self._half
        shutil.rmtree(half, ignore_errors=True)
        link_tree(checkpoint, half / checkpoint.relative_to(work.root))
        if node == 0:
            kept = (work.stage(Stage.TRAIN) / STAGE_INPUTS, work.training_log, attempts_file(work, Stage.TRAIN))
            for path in (path for path in kept if path.exists()):
                shutil.copyfile(path, half / path.relative_to(work.root))  # a copy, as the log is appended to
        half.rename(self.folder)

    def clear(self) -> None:
        """Empty the outbox."""
        for folder in (self.folder, self._half):
            shutil.rmtree(folder, ignore_errors=True)


def outbox_of(work: WorkFolder) -> Outbox | None:
    """Return the outbox of a run that uploads its work to an object store; None for other runs."""
    return Outbox(work) if os.environ.get(WORK_URI) else None
