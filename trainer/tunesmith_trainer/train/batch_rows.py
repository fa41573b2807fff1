"""Which rows are in a forward pass, for the message when its loss is not a number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunesmith_api.resolve import Resolved
from tunesmith_trainer.data.collate import OrderedDataset
from tunesmith_trainer.data.packing import PackedDataset
from tunesmith_trainer.data.row_locations import RowLocations

_SHOWN = 8


class BatchRows:
    """The rows of each step of a run, on one of its processes.

    Attributes:
        dataset: The rows in the order of training, or the packs that they are laid in.
        resolved: Values of the run.
        process: Index of the process.
        data: Folder of the prepared rows.
    """

    def __init__(self, dataset: OrderedDataset | PackedDataset, resolved: Resolved, process: int, data: Path) -> None:
        self.dataset = dataset
        self.resolved = resolved
        self.process = process
        self.data = data

    def of_step(self, step: int) -> list[int]:
        """Return the row numbers of a step, over all processes. Steps count from 1."""
        size = self.resolved.global_batch_size
        order = self.dataset.order if isinstance(self.dataset, OrderedDataset) else self.dataset.steps.ravel()
        return [int(row) for row in order[(step - 1) * size : step * size]]

    def of_pass(self, step: int, number: int) -> list[int]:
        """Return the row numbers of this process's forward pass of that number, from 0, in a step."""
        size, world = self.resolved.micro_batch_size, self.resolved.world_size
        if isinstance(self.dataset, PackedDataset):
            return self.dataset.packs((step - 1) * world + self.process)[number]
        first = (number * world + self.process) * size
        return self.of_step(step)[first : first + size]

    def described(self, rows: Sequence[int]) -> str:
        """Return where rows come from, as text for people: the files and lines."""
        locations = RowLocations.open(self.data)
        shown = [str(row) if locations is None else locations[row] for row in rows[:_SHOWN]]
        more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        what = "row" if len(rows) == 1 else "rows"
        return f"{what} {', '.join(shown)}{more}" + (" of the prepared data" if locations is None else "")
