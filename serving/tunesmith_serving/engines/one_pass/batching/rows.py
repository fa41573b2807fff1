"""What is computed: rows of tokens, and the jobs of requests that they belong to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Outputs = dict[str, npt.NDArray[np.float32]]
"""The model's outputs for one row, by name; those of each token without the padding."""


@dataclass(frozen=True, slots=True)
class Row:
    """The tokens of one row.

    Attributes:
        ids: Token ids.
        types: The text that each token belongs to, 0 or 1.
    """

    ids: Sequence[int]
    types: Sequence[int]

    def __len__(self) -> int:
        return len(self.ids)


class Job:
    """The rows of one request, from one or several inputs.

    Attributes:
        inputs: The rows of each input.
        outputs: The outputs of these rows, as far as they are computed.
        waiting: Places of rows that are not computed yet, the shortest first.
        open_inputs: Inputs with such rows, or with rows that are being computed.
        error: Why there are no outputs.
    """

    def __init__(self, inputs: Sequence[Sequence[Row]], sink: Callable[[Job], None]) -> None:
        """Make a job.

        Args:
            inputs: The rows of each input, at least one each.
            sink: Called once on the worker's thread when the job has ended, unless it was cancelled.
        """
        self.inputs = inputs
        self.outputs: list[list[Any]] = [[None] * len(rows) for rows in inputs]
        places = [(index, position) for index, rows in enumerate(inputs) for position in range(len(rows))]
        self.waiting = deque(sorted(places, key=lambda place: len(self.row(place))))
        self.open_inputs = len(inputs)
        self.error: str | None = None
        self.cancelled = False
        self._sink = sink
        self._rows_left = [len(rows) for rows in inputs]

    def row(self, place: tuple[int, int]) -> Row:
        """Return the row at a place: of which input, and which of its rows."""
        return self.inputs[place[0]][place[1]]

    def store(self, place: tuple[int, int], outputs: Outputs) -> None:
        """Keep the outputs of a row."""
        index, position = place
        self.outputs[index][position] = outputs
        self._rows_left[index] -= 1
        self.open_inputs -= not self._rows_left[index]

    def fail(self, message: str) -> None:
        """End without outputs."""
        self.error = message
        self.waiting.clear()
        self.open_inputs = 0

    @property
    def done(self) -> bool:
        """Whether all outputs are there, or none will come."""
        return not self.open_inputs

    def deliver(self) -> None:
        """Tell the submitter that the job has ended."""
        if not self.cancelled:
            self._sink(self)
