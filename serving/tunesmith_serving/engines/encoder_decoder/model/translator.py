"""The exported encoder and decoder on ONNX Runtime.

The encoder runs once and gives the keys and values that each layer of the decoder attends to. The decoder's own keys
and values go from one step to the next as ONNX Runtime's tensors, without a copy in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.engines.providers import CPU_PROVIDER, Provider
from tunesmith_serving.engines.session import open_session
from tunesmith_serving.runtime.errors import ArtifactError

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
Logits = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


@dataclass
class State:
    """The keys and values of a batch.

    Attributes:
        mask: 1 for a token of a source, 0 for padding, shape [rows, source].
        encoded: Tensors of shape [rows, heads, source, head size] by the decoder's names of them.
        past: Tensors of shape [rows, heads, past, head size], likewise.
    """

    mask: Any
    encoded: dict[str, Any]
    past: dict[str, Any]


class OnnxTranslator:
    """The two sessions of one model."""

    def __init__(self, artifact: Artifact, pad: int, threads: int, provider: Provider = CPU_PROVIDER) -> None:
        """Load both.

        Args:
            artifact: The artifact.
            pad: The token that fills the shorter sources of a batch.
            threads: Threads of ONNX Runtime; 0 uses all processors.
            provider: The execution provider that computes both.

        Raises:
            ArtifactError: A file does not load, or does not have the inputs and outputs of such an export.
        """
        self._pad = pad
        self._encoder: Any = open_session(artifact.onnx / ENCODER, threads, provider, same_shapes=False)
        self._decoder: Any = open_session(artifact.onnx / DECODER, threads, provider, same_shapes=False)
        inputs = {node.name: node for node in self._decoder.get_inputs()}
        outputs = {node.name: node for node in self._decoder.get_outputs()}
        self._encoded = [name for name in inputs if name.startswith("encoder.")]
        self._past = [name for name in inputs if name.startswith("past.")]
        self._present = [name.replace("past.", "present.", 1) for name in self._past]
        self._check(artifact, inputs, outputs)
        self._past_shapes = [(inputs[name].shape[1], inputs[name].shape[3]) for name in self._past]
        self.vocab_size = int(outputs["logits"].shape[2])

    def encode(self, sources: Sequence[Ids]) -> State:
        """Run the encoder on the sources of a batch.

        Args:
            sources: Token ids, shape [source] each.
        """
        rows, longest = len(sources), max(map(len, sources))
        ids = np.full((rows, longest), self._pad, np.int64)
        mask = np.zeros((rows, longest), np.int64)
        for row, source in enumerate(sources):
            ids[row, : len(source)] = source
            mask[row, : len(source)] = 1
        given = {"input_ids": _tensor(ids), "attention_mask": _tensor(mask)}
        encoded = self._encoder.run_with_ort_values(self._encoded, given)
        empty = {
            name: _tensor(np.zeros((rows, heads, 0, size), np.float32))
            for name, (heads, size) in zip(self._past, self._past_shapes, strict=True)
        }
        return State(given["attention_mask"], dict(zip(self._encoded, encoded, strict=True)), empty)

    def decode(self, state: State, tokens: Sequence[int]) -> Logits:
        """Run one token for each row, and add its keys and values to the state.

        Returns:
            Logits of the next token, shape [rows, vocabulary].
        """
        ids = np.asarray(tokens, np.int64).reshape(-1, 1)
        given = {"input_ids": _tensor(ids), "encoder_attention_mask": state.mask, **state.past, **state.encoded}
        logits, *present = self._decoder.run_with_ort_values(["logits", *self._present], given)
        state.past = dict(zip(self._past, present, strict=True))
        values: Logits = logits.numpy()[:, -1]
        return values

    def keep(self, state: State, rows: Sequence[int]) -> None:
        """Keep these rows of a batch; the others have ended."""
        index = np.asarray(rows, np.intp)
        state.mask = _rows(state.mask, index)
        state.encoded = {name: _rows(value, index) for name, value in state.encoded.items()}
        state.past = {name: _rows(value, index) for name, value in state.past.items()}

    def _check(self, artifact: Artifact, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        layers = range(len(self._past) // 2)
        parts = [f"{layer}.{part}" for layer in layers for part in ("key", "value")]
        wanted = {"input_ids", "encoder_attention_mask", *(f"{kind}.{part}" for kind in _KINDS for part in parts)}
        wrong = sorted(set(inputs) ^ wanted) or sorted({"logits", *self._present} - set(outputs))
        if wrong or not layers:
            raise ArtifactError(
                f"{artifact.onnx / DECODER} is not a decoder of a translation model: "
                f"{', '.join(wrong) or 'past keys and values'} do not fit; export the model again"
            )
        sizes = [outputs["logits"].shape[2], *(inputs[name].shape[axis] for name in self._past for axis in (1, 3))]
        if not all(isinstance(size, int) for size in sizes):
            raise ArtifactError(f"{artifact.onnx / DECODER} does not fix its vocabulary and heads; export it again")
        encoder_inputs = {node.name for node in self._encoder.get_inputs()}
        missing = sorted(set(self._encoded) - {node.name for node in self._encoder.get_outputs()})
        if missing or encoder_inputs != {"input_ids", "attention_mask"}:
            raise ArtifactError(
                f"{artifact.onnx / ENCODER} does not fit the decoder (missing outputs: {', '.join(missing) or 'none'}; "
                f"inputs: {', '.join(sorted(encoder_inputs))}); export the model again"
            )


_KINDS = ("past", "encoder")


def _tensor(array: npt.NDArray[Any]) -> Any:  # noqa: ANN401 - ONNX Runtime carries no types
    return ort.OrtValue.ortvalue_from_numpy(array)


def _rows(value: Any, index: npt.NDArray[np.intp]) -> Any:  # noqa: ANN401
    return _tensor(np.ascontiguousarray(value.numpy()[index]))
