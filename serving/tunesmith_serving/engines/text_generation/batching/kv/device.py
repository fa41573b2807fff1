"""The keys and values of running requests in a device's memory, where the model computes."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from tunesmith_serving.engines.providers import Provider
from tunesmith_serving.engines.session import bytes_copier, out_of_memory
from tunesmith_serving.engines.text_generation.batching.kv.rows import KeyValueRows, KvShape
from tunesmith_serving.runtime.errors import MemoryShortageError


class DeviceRows(KeyValueRows):
    """Buffers of shape [parts, rows, heads, context, head size], allocated as a whole.

    The prefix cache, which is in the server's memory, does not reach them.
    """

    def __init__(self, shape: KvShape, count: int, context: int, provider: Provider, element_type: int) -> None:
        """Allocate them.

        Args:
            shape: Sizes of the model.
            count: Number of rows.
            context: Tokens that a row can hold.
            provider: The execution provider on whose device they are.
            element_type: Type of their elements, as ONNX numbers it.

        Raises:
            MemoryShortageError: The device has not that much memory left.
        """
        self.shape, self.count, self.context = shape, count, context
        self._device = (provider.device_type, provider.device_id)
        self._element_type = element_type
        size = (shape.parts, count, shape.heads, context, shape.head_size)
        try:
            self._value: Any = ort.OrtValue.ortvalue_from_shape_and_type(size, element_type, *self._device)
        except Exception as error:  # ONNX Runtime has no common base class for its errors
            if not out_of_memory(error):
                raise
            gib = count * context * shape.token_bytes / 2**30
            raise MemoryShortageError(
                f"keys and values of {count} slots of {context} tokens need {gib:.1f} GiB of the device's memory; "
                "lower maxBatchSize or contextLength"
            ) from None
        self._row_bytes = shape.heads * context * shape.head_size * np.dtype(shape.dtype).itemsize
        self._copy = bytes_copier(provider)

    def view(self, part: int, first: int, count: int) -> npt.NDArray[Any]:
        """Refuse: the rows are not in the server's memory."""
        raise NotImplementedError("rows in a device's memory have no view")

    def tokens(self, row: int, start: int, end: int) -> npt.NDArray[Any]:
        """Refuse: the rows are not in the server's memory."""
        raise NotImplementedError("rows in a device's memory have no view")

    def bind(self, binding: Any, names: tuple[str, str], part: int, first: int, count: int) -> None:  # noqa: ANN401
        """Bind successive rows of one buffer, as input and as output."""
        size = (count, self.shape.heads, self.context, self.shape.head_size)
        bound = (*self._device, self._element_type, size, self._address(part, first))
        binding.bind_input(names[0], *bound)
        binding.bind_output(names[1], *bound)

    def take(self, row: int) -> None:
        """Use a row, which is always there."""

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row to another, within the device."""
        for part in range(self.shape.parts):
            self._copy(self._address(part, source), self._address(part, target), self._row_bytes)

    def free(self, row: int, length: int) -> None:
        """Keep the memory, which is allocated as a whole."""

    def _address(self, part: int, row: int) -> int:
        return int(self._value.data_ptr()) + (part * self.count + row) * self._row_bytes
