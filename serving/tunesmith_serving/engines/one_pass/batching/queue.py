"""Which rows are computed together: rows of like lengths, fairly from all requests that wait."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tunesmith_serving.engines.one_pass.batching.rows import Job, Row

Place = tuple[int, int]
Batch = list[tuple[Job, Place]]

LARGEST_PADDING = 0.05
"""The largest part of a batch's tokens that may be padding: rows computed together cost at best a third less."""
CHEAP_PADDING = 12
"""Padding tokens that cost less than another run of the model."""
MOST_CONSIDERED = 512
"""Rows that are looked at for one batch."""


@dataclass
class Shape:
    """The rows and tokens of a batch while it is put together."""

    rows: int = 0
    longest: int = 0
    tokens: int = 0

    def with_row(self, row: Row) -> Shape:
        """Return the shape with one row more."""
        return Shape(self.rows + 1, max(self.longest, len(row)), self.tokens + len(row))

    @property
    def padded(self) -> int:
        """Tokens that are computed, padding included."""
        return self.rows * self.longest

    @property
    def wasteful(self) -> bool:
        """Whether too many of them are padding."""
        return self.padded - self.tokens > max(CHEAP_PADDING, self.padded * LARGEST_PADDING)


class FairQueue:
    """The jobs that wait. The oldest turn begins each batch, so that no row waits for ever, whatever its length."""

    def __init__(self, most_rows: int, most_tokens: int) -> None:
        """Make an empty queue.

        Args:
            most_rows: Rows of a batch.
            most_tokens: Tokens of a batch, padding included; a single row may have more.
        """
        self._most_rows = most_rows
        self._most_tokens = most_tokens
        self._jobs: deque[Job] = deque()

    def __bool__(self) -> bool:
        return bool(self._jobs)

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return sum(len(job.waiting) for job in self._jobs)

    def add(self, job: Job) -> None:
        """Add a job after the others."""
        self._jobs.append(job)

    def remove(self, job: Job) -> None:
        """Remove a job, if it is there."""
        if job in self._jobs:
            self._jobs.remove(job)

    def clear(self) -> list[Job]:
        """Remove and return all jobs."""
        jobs = list(self._jobs)
        self._jobs.clear()
        return jobs

    def take(self) -> Batch:
        """Remove and return the rows that are computed next; none if nothing waits.

        Every job gets a row in turn: one with many rows takes only what the others leave.
        """
        chosen: dict[int, list[Place]] = {}
        shape = Shape()
        considered = rank = 0
        jobs = list(self._jobs)
        while jobs and considered < MOST_CONSIDERED and shape.rows < self._most_rows:
            jobs = [job for job in jobs if rank < len(job.waiting)]
            for job in jobs:
                place = job.waiting[rank]
                considered += 1
                larger = shape.with_row(job.row(place))
                if larger.rows > self._most_rows:
                    break
                if shape.rows and (larger.padded > self._most_tokens or larger.wasteful):
                    continue
                chosen.setdefault(id(job), []).append(place)
                shape = larger
            rank += 1
        return self._remove(chosen)

    def _remove(self, chosen: dict[int, list[Place]]) -> Batch:
        batch: Batch = []
        for job in list(self._jobs):
            for place in chosen.get(id(job), ()):
                job.waiting.remove(place)
                batch.append((job, place))
        # The job whose turn it was goes to the end; jobs that have nothing left go.
        self._jobs.rotate(-1)
        self._jobs = deque(job for job in self._jobs if job.waiting)
        return batch
