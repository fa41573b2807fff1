"""Binding arrays as inputs and outputs of ONNX Runtime sessions, which carry no types."""

from typing import Any, Protocol

import numpy.typing as npt


class Binding(Protocol):
    """onnxruntime.IOBinding."""

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: type, shape: tuple[int, ...], buffer_ptr: int
    ) -> None:
        """Bind memory as an input."""

    def bind_output(
        self, name: str, device_type: str, device_id: int, element_type: type, shape: tuple[int, ...], buffer_ptr: int
    ) -> None:
        """Bind memory as an output."""


class Session(Protocol):
    """onnxruntime.InferenceSession."""

    def io_binding(self) -> Binding:
        """Return a new binding."""

    def run_with_iobinding(self, iobinding: Binding) -> None:
        """Run with what is bound."""

    def get_inputs(self) -> list[Any]:
        """Return the inputs, without those that may be left out."""

    def get_overridable_initializers(self) -> list[Any]:
        """Return the inputs that may be left out."""

    def get_outputs(self) -> list[Any]:
        """Return the outputs."""


def bind_input(binding: Binding, name: str, array: npt.NDArray[Any]) -> None:
    """Bind an array that lives until the run as an input."""
    binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def bind_output(binding: Binding, name: str, array: npt.NDArray[Any]) -> None:
    """Bind an array as an output, which the run writes."""
    binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
