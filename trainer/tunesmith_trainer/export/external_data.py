"""Writes and reads the data of an ONNX model's tensors, in a file beside the graph, one tensor at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

_INLINE = 1024  # bytes; a smaller tensor stays in the graph
_ALIGNMENT = 4096  # bytes; ONNX Runtime maps whole pages


class DataFile:
    """A file of tensors' data. A context manager.

    Args:
        path: The file, beside the graph; it is overwritten.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, tensor: TensorProto, parts: Iterable[npt.NDArray[Any]]) -> None:
        """Write a tensor's data, and let the tensor refer to it.

        Args:
            tensor: The tensor, with its type and shape.
            parts: Its data in pieces, in row-major order.

        Raises:
            ValueError: The pieces do not have the size of the tensor.
        """
        position = self._file.tell()
        offset = -(-position // _ALIGNMENT) * _ALIGNMENT
        self._file.seek(offset)
        length = sum(self._file.write(np.ascontiguousarray(part).data.cast("B")) for part in parts)
        expected = math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        if length != expected:
            raise ValueError(f"{tensor.name} has {length} bytes; {expected} are expected")
        tensor.ClearField("raw_data")
        del tensor.external_data[:]
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self._path.name), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))

    def move(self, tensor: TensorProto) -> None:
        """Move the data of a tensor from the graph to the file, if it is large."""
        if tensor.data_location != TensorProto.EXTERNAL and len(tensor.raw_data) >= _INLINE:
            self.write(tensor, [np.frombuffer(tensor.raw_data, np.uint8)])


def mapped(tensor: TensorProto, folder: Path) -> Any:  # noqa: ANN401 - an array, in the file or in memory
    """Return a tensor's array; of one whose data is in a file, without reading it.

    onnx's own reader refuses files with several hard links, as an artifact shares with the stage that made it.

    Args:
        tensor: The tensor.
        folder: The folder of the graph.
    """
    if tensor.data_location != TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor)
    place = {entry.key: entry.value for entry in tensor.external_data}
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.memmap(folder / place["location"], dtype, "r", int(place.get("offset", 0)), tuple(tensor.dims))
