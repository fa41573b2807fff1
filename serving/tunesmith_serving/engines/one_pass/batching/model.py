"""The exported model on ONNX Runtime: rows in, their outputs out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.engines.one_pass.batching.rows import Outputs, Row
from tunesmith_serving.engines.providers import CPU_PROVIDER, Provider
from tunesmith_serving.engines.session import open_session
from tunesmith_serving.runtime.errors import ArtifactError

MODEL = "model.onnx"
_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})


class OnePassModel:
    """An inference session.

    Attributes:
        per_token: Whether the outputs have a value for each token.
    """

    def __init__(
        self,
        artifact: Artifact,
        outputs: Sequence[str],
        pad: int,
        threads: int,
        provider: Provider = CPU_PROVIDER,
        *,
        per_token: bool,
    ) -> None:
        """Load a model.

        Args:
            artifact: The artifact.
            outputs: The outputs that the model must have.
            pad: The token that rows are padded with.
            threads: Threads of ONNX Runtime; 0 for all processors.
            provider: The execution provider that computes it.
            per_token: Whether the outputs are [batch, sequence, ...], and not [batch, ...].

        Raises:
            ArtifactError: The model does not load, or has other inputs or outputs.
            MemoryShortageError: It does not fit in memory.
        """
        self.per_token = per_token
        self._pad = pad
        self._outputs = list(outputs)
        self._session = open_session(artifact.onnx / MODEL, threads, provider, same_shapes=False)
        inputs = {node.name for node in self._session.get_inputs()}
        found = {node.name: node.shape for node in self._session.get_outputs()}
        missing = [name for name in outputs if name not in found]
        if missing or "input_ids" not in inputs or inputs - _INPUTS:
            raise ArtifactError(
                f"{artifact.onnx / MODEL} has the inputs {', '.join(sorted(inputs))} and the outputs "
                f"{', '.join(sorted(found))}; this task needs input_ids, attention_mask, perhaps token_type_ids, and "
                f"{', '.join(outputs)}: export the model again"
            )
        self._inputs = inputs
        self.widths = [shape[-1] if isinstance(shape[-1], int) else None for shape in map(found.get, outputs) if shape]

    def run(self, rows: Sequence[Row]) -> list[Outputs]:
        """Return the outputs of rows that are computed together."""
        width = max(len(row) for row in rows)
        ids = np.full((len(rows), width), self._pad, np.int64)
        feed: dict[str, npt.NDArray[np.int64]] = {"input_ids": ids}
        for name in self._inputs - {"input_ids"}:
            feed[name] = np.zeros((len(rows), width), np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row.ids
            if "attention_mask" in feed:
                feed["attention_mask"][place, : len(row)] = 1
            if "token_type_ids" in feed:
                feed["token_type_ids"][place, : len(row)] = row.types
        arrays: list[Any] = self._session.run(self._outputs, feed)
        named = list(zip(self._outputs, arrays, strict=True))
        return [
            {name: array[place, : len(row)] if self.per_token else array[place] for name, array in named}
            for place, row in enumerate(rows)
        ]
