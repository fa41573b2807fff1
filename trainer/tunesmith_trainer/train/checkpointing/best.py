"""The weights with the lowest validation loss so far."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.train.checkpointing.kept import STEP, KeptWeights


class BestWeights(KeptWeights):
    """The folder `train/best/step-N`."""

    def __init__(self, work: WorkFolder, *, is_writer: bool) -> None:
        """Change nothing yet.

        Args:
            work: The work folder.
            is_writer: Whether this process writes the weights.
        """
        super().__init__(work.stage(Stage.TRAIN) / "best", is_writer=is_writer)

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Replace the best weights. All processes of the run take part.

        Args:
            step: The step that has just been done.
            write: Writes the weights as they are now into a folder; a collective operation.
        """
        partial = self.partial()
        write(partial / f"{STEP}{step}")
        if self.is_writer:
            self.remove()
            partial.rename(self.folder)

    def weights(self, step: int) -> Path:
        """Return the folder with the weights of a step."""
        return self.folder / f"{STEP}{step}"
