"""The checkpoint that is next to be kept in an object store: the trainer puts it there, the launcher takes it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tunesmith_api.contract import WORK_URI
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.storage.files import link_tree
from tunesmith_trainer.train.checkpointing.parts import Part


class Outbox:
    """Holds one checkpoint (or this machine's part of it) by hard links, so that it may be removed meanwhile.

    Attributes:
        folder: Where it is, by its paths in the work folder; absent while there is none.
    """

    def __init__(self, work: WorkFolder) -> None:
        self.folder = work.root / ".outgoing"
        self._half = work.root / ".outgoing.tmp"
        self._work = work

    def offer(self, checkpoint: Path, part: Part) -> None:
        """Put a checkpoint in if all machines are done with the one before. All processes of the run take part.

        So all machines keep the same ones, however fast each writes.
        """
        is_free = not (part.is_mine and self.folder.exists())
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            import torch  # the launcher, which only takes out, has no other use for it

            answers = [True] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(answers, is_free)
            is_free = all(answers)
        if is_free and part.is_mine:
            self.put(checkpoint, part.index)

    def put(self, checkpoint: Path, machine: int) -> None:
        """Put this machine's part of a checkpoint in; machine 0 puts in what the stage needs to go on, too."""
        work, half = self._work, self._half
        shutil.rmtree(half, ignore_errors=True)
        link_tree(checkpoint, half / checkpoint.relative_to(work.root))
        if machine == 0:
            for path in (work.stage(Stage.TRAIN) / "inputs.json", work.training_log):
                shutil.copyfile(path, half / path.relative_to(work.root))  # the log goes on growing
        half.rename(self.folder)

    def clear(self) -> None:
        """Remove what is in it."""
        for folder in (self.folder, self._half):
            shutil.rmtree(folder, ignore_errors=True)


def outbox_of(work: WorkFolder) -> Outbox | None:
    """Return the outbox of a run whose work is kept in an object store."""
    return Outbox(work) if os.environ.get(WORK_URI) else None
