"""The weights at the ends of the newest epochs, for the publish stage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tunesmith_api.resolve import Resolved
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.storage.files import digest_of_tree
from tunesmith_trainer.train.checkpointing.kept import STEP, KeptWeights


class EpochWeights(KeptWeights):
    """The folders `train/epochs/step-N`."""

    def __init__(
        self, work: WorkFolder, resolved: Resolved, count: int, *, may_end_early: bool, is_writer: bool
    ) -> None:
        """Change nothing yet.

        Args:
            work: The work folder.
            resolved: Values of the run.
            count: How many of the newest are kept.
            may_end_early: Whether training may stop before its last step.
            is_writer: Whether this process writes them.
        """
        super().__init__(work.epoch_ends, is_writer=is_writer)
        self._work = work
        self._resolved = resolved
        self._count = count
        self._may_end_early = may_end_early

    def is_due(self, step: int) -> bool:
        """Return whether the weights after a step are kept: at the end of an epoch that may be among the newest.

        Those of the last step are the result.
        """
        last = self._resolved.total_steps - 1
        if step > last or self._passes(step) == self._passes(step - 1):
            return False
        later = min(self._passes(last) - self._passes(step), last - step)
        return self._count > 0 and (self._may_end_early or later < self._count)

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Keep the weights as they are, and remove the oldest. All processes of the run take part.

        Args:
            step: The step that has just been done.
            write: Writes the weights into a folder; a collective operation.
        """
        target = self._work.epoch_end(step)
        partial = self.partial()
        write(partial)
        if self.is_writer:
            shutil.rmtree(target, ignore_errors=True)
            self.folder.mkdir(exist_ok=True)
            partial.rename(target)
            for old in self.steps()[: -self._count]:
                shutil.rmtree(self._work.epoch_end(old))

    def steps(self) -> list[int]:
        """Return the steps whose weights are kept, the oldest first."""
        return sorted(int(path.name.removeprefix(STEP)) for path in self.folder.glob(f"{STEP}*"))

    def digests(self) -> dict[str, str]:
        """Return the digest of the weights of each step."""
        return {str(step): digest_of_tree(self._work.epoch_end(step)) for step in self.steps()}

    def _passes(self, step: int) -> int:
        """Return how many whole passes over the training rows are done after a step."""
        return step * self._resolved.global_batch_size // self._resolved.train_rows
