"""Runs over successive rows, each with the graph that its rows and tokens need."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt

from tunesmith_serving.engines.text_generation.adapters.rows import AdapterRows, RowAdapter
from tunesmith_serving.engines.text_generation.adapters.weights import Adapter
from tunesmith_serving.engines.text_generation.batching.binding import Session, bind_input, bind_output
from tunesmith_serving.engines.text_generation.batching.graphs import Graphs


class Run:
    """A session with what is bound for a run.

    Attributes:
        session: The session.
        binding: What is bound.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.binding = session.io_binding()

    def read(self, **arrays: npt.NDArray[Any]) -> None:
        """Bind arrays that live until the run as inputs, by their names."""
        for name, array in arrays.items():
            bind_input(self.binding, name, array)

    def write(self, **arrays: npt.NDArray[Any]) -> None:
        """Bind arrays as outputs, by their names."""
        for name, array in arrays.items():
            bind_output(self.binding, name, array)

    def compute(self) -> None:
        """Run."""
        self.session.run_with_iobinding(self.binding)


class Runs:
    """Begins runs."""

    def __init__(self, graphs: Graphs, adapters: AdapterRows) -> None:
        """Take the graphs, and what binds the matrices of rows' adapters."""
        self._graphs, self._adapters = graphs, adapters

    def rows_with(self, adapter: Adapter | None) -> list[int]:
        """Return the rows in which the matrices of an adapter are from earlier; none without an adapter."""
        return self._adapters.rows_with(adapter)

    def begin(
        self, first: int, adapters: Sequence[RowAdapter], tokens: int, kept: dict[Session, Run] | None = None
    ) -> Run:
        """Return a run of rows with their adapters.

        Args:
            first: The first row.
            adapters: The adapter of each row; None for the base alone.
            tokens: The tokens of all rows together.
            kept: Earlier runs of these rows, one of which is used again if it is of the graph that they need.

        Raises:
            UnreadableAdapterError: An adapter has changed or cannot be read.
        """
        session = self._graphs.of(adapters, tokens)
        run = (kept or {}).get(session) or Run(session)
        if session is self._graphs.first:
            self._adapters.bind(run.binding, first, adapters)
        return run


class KeptRuns:
    """Runs of the first rows. What stays the same for a number of rows is bound once for each graph."""

    def __init__(self, runs: Runs, prepare: Callable[[Run, int], None]) -> None:
        """Keep nothing yet.

        Args:
            runs: Begins them.
            prepare: Binds what stays the same for a number of rows.
        """
        self._runs, self._prepare = runs, prepare
        self._kept: dict[int, dict[Session, Run]] = {}

    def begin(self, adapters: Sequence[RowAdapter], tokens: int) -> Run:
        """Return a run of as many rows as there are adapters; see `Runs.begin`."""
        kept = self._kept.setdefault(len(adapters), {})
        run = self._runs.begin(0, adapters, tokens, kept)
        if run.session not in kept:
            self._prepare(run, len(adapters))
            kept[run.session] = run
        return run
