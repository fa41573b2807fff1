"""The weights with the lowest validation loss so far, kept beside the checkpoints until training ends.

Each checkpoint has hard links to them, under its own seal: so whatever keeps, uploads, verifies or removes a checkpoint
does the same for the best weights that belong to it, and a run that goes on from it finds them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.storage.files import link_tree

_NAME = "best"
_STEP = "step-"


class BestWeights:
    """The folder `train/best/step-N`, in the layout of the final weights.

    A checkpoint has it as `best/step-N`: peft takes folders right below a checkpoint for more adapters.

    Attributes:
        folder: The folder `train/best`; absent while there are no best weights.
        is_writer: Whether this process writes it.
    """

    def __init__(self, work: WorkFolder, *, is_writer: bool) -> None:
        self.folder = work.stage(Stage.TRAIN) / _NAME
        self.is_writer = is_writer

    def restore(self, checkpoint: Path | None) -> None:
        """Begin with the best weights of a checkpoint; with none if there is no checkpoint."""
        if not self.is_writer:
            return
        self.remove()
        if checkpoint is not None and (checkpoint / _NAME).is_dir():
            partial = self._partial()
            link_tree(checkpoint / _NAME, partial)
            partial.rename(self.folder)

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Replace the best weights. All processes of the run take part.

        Args:
            step: The step that has just been done.
            write: Writes the weights as they are now into a folder; a collective operation.
        """
        partial = self._partial()
        write(partial / f"{_STEP}{step}")
        if self.is_writer:
            self.remove()
            partial.rename(self.folder)

    def link_into(self, checkpoint: Path) -> None:
        """Add the best weights to a checkpoint that is not sealed yet."""
        if self.is_writer and self.folder.is_dir():
            link_tree(self.folder, checkpoint / _NAME)

    def weights(self, step: int) -> Path:
        """Return the folder with the weights of a step."""
        return self.folder / f"{_STEP}{step}"

    def remove(self) -> None:
        """Remove the folder. Checkpoints keep their links."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _partial(self) -> Path:
        """Return the path of an unfinished folder, which does not exist."""
        partial = self.folder.with_name(f".{_NAME}.tmp")
        if self.is_writer:
            shutil.rmtree(partial, ignore_errors=True)
        return partial
