"""Weights that are kept beside the checkpoints until training ends.

Each checkpoint has hard links to them, under its own seal: so whatever keeps, uploads, verifies or removes a checkpoint
does the same for the weights that belong to it, and a run that goes on from it finds them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tunesmith_trainer.storage.files import link_tree

STEP = "step-"
"""Weights are below the folder as `step-N`: peft takes folders right below a checkpoint for more adapters."""


class KeptWeights:
    """A folder of weights below `train`, each in the layout of the final weights.

    Attributes:
        folder: The folder; absent while there are none.
        is_writer: Whether this process writes it.
    """

    def __init__(self, folder: Path, *, is_writer: bool) -> None:
        """Change nothing yet.

        Args:
            folder: The folder.
            is_writer: Whether this process writes it.
        """
        self.folder = folder
        self.is_writer = is_writer

    def restore(self, checkpoint: Path | None) -> None:
        """Begin with the weights that a checkpoint has; with none if there is no checkpoint."""
        if not self.is_writer:
            return
        self.remove()
        if checkpoint is not None and (checkpoint / self.folder.name).is_dir():
            partial = self.partial()
            link_tree(checkpoint / self.folder.name, partial)
            partial.rename(self.folder)

    def link_into(self, checkpoint: Path) -> None:
        """Add the weights to a checkpoint that is not sealed yet."""
        if self.is_writer and self.folder.is_dir():
            link_tree(self.folder, checkpoint / self.folder.name)

    def remove(self) -> None:
        """Remove the folder. Checkpoints keep their links."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def partial(self) -> Path:
        """Return the path of an unfinished folder, which does not exist."""
        partial = self.folder.with_name(f".{self.folder.name}.tmp")
        if self.is_writer:
            shutil.rmtree(partial, ignore_errors=True)
        return partial
