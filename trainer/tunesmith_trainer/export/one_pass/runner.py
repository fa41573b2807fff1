"""Runs an export on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_trainer.export.one_pass.graph import MODEL

Outputs = tuple[npt.NDArray[np.float32], ...]


class OnnxModel:
    """An exported model, on the CPU.

    Args:
        folder: The export.
    """

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(folder / MODEL, options, providers=["CPUExecutionProvider"])
        self._inputs = [value.name for value in self._session.get_inputs()]

    def run(self, inputs: Mapping[str, npt.NDArray[np.int64]], names: Sequence[str]) -> Outputs:
        """Return outputs of a batch, float32 [rows, ...].

        Args:
            inputs: The inputs by name, int64 [rows, tokens]; those that the graph does not have are left out.
            names: Names of the outputs.
        """
        found: list[Any] = self._session.run(list(names), {name: inputs[name] for name in self._inputs})
        return tuple(found)
