"""The adapter of each row of a batch, as inputs of the graph.

The rows of the decoder lie one behind another, and so do the matrices of their adapters: A of a module is
[rows, inputs, rank], B is [rows, rank, outputs]. Both exist once for all rows, and are written only where rows of one
step have different adapters. Rows that share an adapter share one row of the matrices, since the graph broadcasts it;
rows without any have matrices of rank 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from tunesmith_serving.engines.text_generation.adapters.errors import AdapterError, UnreadableAdapterError
from tunesmith_serving.engines.text_generation.adapters.modules import LoraModules
from tunesmith_serving.engines.text_generation.adapters.weights import Adapter

_NOTHING = 0
"""Stands for a row of the matrices whose A is zero."""
_FAR, _LONG = 4, 256
"""How many times the rank that runs need is far above it, and how many runs are long."""


class Unused(Enum):
    """The adapter of a row whose result nobody reads: whatever its matrices hold."""

    UNUSED = "unused"

    def __bool__(self) -> bool:
        """Return False, as None does for a row without an adapter."""
        return False


RowAdapter = Adapter | Unused | None
"""What computes a row besides the base."""


class Binding(Protocol):
    """The part of onnxruntime.IOBinding that is needed, which carries no types."""

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: type, shape: tuple[int, ...], buffer_ptr: int
    ) -> None:
        """Let an input be read from memory that the caller keeps."""


class AdapterRows:
    """The matrices of a batch's rows; used by the decoder's thread only."""

    def __init__(self, modules: LoraModules, slots: int, *, copies: bool = False) -> None:
        """Begin without adapters; memory is taken when the first one is used.

        Args:
            modules: The layers that take an adapter.
            slots: Rows of the decoder.
            copies: Whether an input is copied when it is bound, so that it must be bound for each run.
        """
        self._modules = modules.modules
        self._copies = copies
        # What the rows of the matrices hold: the serials of weights. It changes only where a step needs it.
        self._held = [_NOTHING] * slots
        self._rank = self._wide = 0
        self._matrices = [_matrices(module.inputs, module.outputs, 1, 0) for module in self._modules]
        self._empty = self._matrices
        self._generation = 0
        self._bound: WeakKeyDictionary[Any, tuple[int, ...]] = WeakKeyDictionary()

    def rows_with(self, adapter: Adapter | None) -> list[int]:
        """Return the rows whose matrices are those of an adapter; none without one, which fits any row."""
        return [row for row, held in enumerate(self._held) if adapter and held == adapter.weights.serial]

    def bind(self, binding: Binding, first: int, adapters: Sequence[RowAdapter]) -> None:
        """Bind the matrices of neighbouring rows, unless they are bound already.

        Args:
            binding: The inputs of a run.
            first: The first row.
            adapters: The adapter of each row; None for the base alone.

        Raises:
            UnreadableAdapterError: An adapter that is not in memory has changed or cannot be read.
        """
        if not self._modules:
            return
        used = [(row, adapter) for row, adapter in enumerate(adapters, first) if not isinstance(adapter, Unused)]
        serials = {_serial(adapter) for _, adapter in used}
        if serials <= {_NOTHING}:
            self._bind(binding, (), self._empty, 0, 1)
            return
        self._make_room(max(adapter.weights.rank for _, adapter in used if adapter))
        if len(serials) == 1:
            serial = serials.pop()
            if serial not in self._held:
                self._write(*used[0])
            row, rows = self._held.index(serial), 1
        else:
            for row, adapter in used:
                self._write(row, adapter)
            row, rows = first, len(adapters)
        self._bind(binding, (self._generation, row, rows), self._matrices, row, rows)

    def _bind(self, binding: Binding, signature: tuple[int, ...], matrices: list[Any], row: int, rows: int) -> None:
        if self._bound.get(binding) == signature and not self._copies:
            return
        for module, pair in zip(self._modules, matrices, strict=True):
            for name, matrix in zip(module.input_names, pair, strict=True):
                view = matrix[row : row + rows]
                binding.bind_input(name, "cpu", 0, np.float32, view.shape, view.ctypes.data)
        self._bound[binding] = signature

    def _make_room(self, rank: int) -> None:
        """Let the matrices have a rank that holds a run's adapters, and is not far above it for long."""
        self._wide = self._wide + 1 if self._rank >= _FAR * rank else 0
        if rank <= self._rank and self._wide < _LONG:
            return
        slots = len(self._held)
        self._rank, self._wide, self._held = rank, 0, [_NOTHING] * slots
        self._matrices = []  # their memory is given back first
        self._matrices = [_matrices(module.inputs, module.outputs, slots, rank) for module in self._modules]
        self._generation += 1

    def _write(self, row: int, adapter: Adapter | None) -> None:
        """Let a row of the matrices hold an adapter."""
        serial = _serial(adapter)
        if self._held[row] == serial:
            return
        source = self._held.index(serial) if serial in self._held else None
        self._held[row] = -1  # neither, in case that it cannot be read
        for index, (a, b) in enumerate(self._matrices):
            if adapter is None:
                a[row] = 0  # then x @ A is zero, whatever B holds
            elif source is not None:
                a[row], b[row] = a[source], b[source]
            else:
                try:
                    adapter.weights.write(index, a[row], b[row])
                except AdapterError as error:
                    raise UnreadableAdapterError(adapter, error) from None
        self._held[row] = serial


def _serial(adapter: Adapter | None) -> int:
    return adapter.weights.serial if adapter else _NOTHING


def _matrices(inputs: int, outputs: int, rows: int, rank: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return A and B of zeros; their memory is taken when they are written."""
    return np.zeros((rows, inputs, rank), np.float32), np.zeros((rows, rank, outputs), np.float32)
