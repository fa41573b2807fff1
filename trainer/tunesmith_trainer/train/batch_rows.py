"""Which rows are in a forward pass, for the message when its loss is not a number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tunesmith_api.resolve import Resolved
from tunesmith_trainer.data.row_locations import RowLocations

_SHOWN = 8


class BatchRows:
    """The rows of each step of a run, on one of its processes.

    Attributes:
        order: int [total_steps * global_batch_size], row numbers in the order of training.
        resolved: Values of the run.
        process: Index of the process.
        data: Folder of the prepared rows.
    """

    def __init__(self, order: npt.NDArray[np.int64], resolved: Resolved, process: int, data: Path) -> None:
        self.order = order
        self.resolved = resolved
        self.process = process
        self.data = data

    def of_step(self, step: int) -> list[int]:
        """Return the row numbers of a step, over all processes. Steps count from 1."""
        size = self.resolved.global_batch_size
        return [int(row) for row in self.order[(step - 1) * size : step * size]]

    def of_pass(self, step: int, number: int) -> list[int]:
        """Return the row numbers of this process's forward pass of that number, from 0, in a step."""
        size = self.resolved.micro_batch_size
        first = (number * self.resolved.world_size + self.process) * size
        return self.of_step(step)[first : first + size]

    def described(self, rows: Sequence[int]) -> str:
        """Return where rows come from, as text for people: the files and lines."""
        locations = RowLocations.open(self.data)
        shown = [str(row) if locations is None else locations[row] for row in rows[:_SHOWN]]
        more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        what = "row" if len(rows) == 1 else "rows"
        return f"{what} {', '.join(shown)}{more}" + (" of the prepared data" if locations is None else "")
