"""The exported decoder on ONNX Runtime, computing on rows of key-value buffers that all requests share.

Each buffer is bound as past and as present of its layer, so a step writes its new keys and values in place and nothing
is copied. GroupQueryAttention takes each row's length from `attention_mask`, so rows of different lengths decode
together. It takes several tokens of several rows only if none of them has a past, and of a single row otherwise.

In fp32 a token's keys, values and logits do not depend on the other tokens and rows of a run, to the last bit, as long
as the run has several tokens of a row: a single token is computed by other kernels, whose sums are rounded differently
(logits differ by up to 5e-5). With int4 the single-token kernel also rounds its inputs differently (up to 0.1).
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.engines.session import open_session
from tunesmith_serving.engines.text_generation.batching.kv.budget import plan_memory
from tunesmith_serving.engines.text_generation.batching.kv.rows import KeyValueRows, KvShape
from tunesmith_serving.engines.text_generation.batching.spec import read_spec
from tunesmith_serving.runtime.errors import ArtifactError
from tunesmith_serving.runtime.memory import free_memory

Tokens = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]
KV_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class _Binding(Protocol):
    """onnxruntime.IOBinding, which carries no types."""

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: type, shape: tuple[int, ...], buffer_ptr: int
    ) -> None: ...

    def bind_output(
        self, name: str, device_type: str, device_id: int, element_type: type, shape: tuple[int, ...], buffer_ptr: int
    ) -> None: ...


class _Session(Protocol):
    """onnxruntime.InferenceSession, which carries no types."""

    def io_binding(self) -> _Binding: ...

    def run_with_iobinding(self, iobinding: _Binding) -> None: ...

    def get_inputs(self) -> list[Any]: ...

    def get_outputs(self) -> list[Any]: ...


class OnnxDecoder:
    """One inference session and the key-value rows of all slots.

    Attributes:
        spec: Sizes of the model.
        slots: Number of rows.
        memory: How much of the free memory keys and values may take.
        context_length: The most tokens of a row; fewer than asked for if the model or the memory has no more.
        prefill_chunk: The most prompt tokens of a run.
        rows: The keys and values.
        same_lengths: Whether only prompts of the same length can be computed in one run.
    """

    def __init__(
        self,
        artifact: Artifact,
        slots: int,
        context_length: int,
        prefill_chunk: int,
        threads: int,
        prefix_memory: int | None = 0,
    ) -> None:
        """Load the model and allocate the buffers.

        Args:
            artifact: What holds the model.
            slots: Number of rows.
            context_length: The most tokens of a row.
            prefill_chunk: The most prompt tokens of a run.
            threads: Threads that compute together; 0 for all processors that this process may use.
            prefix_memory: Bytes of the prefix cache, which takes part of the memory; None for a share of what is free.

        Raises:
            ArtifactError: The model does not load, or does not have the inputs and outputs of a generative export.
            MemoryShortageError: The model or the key-value buffers do not fit in memory.
        """
        self.spec = read_spec(artifact)
        self.slots = slots
        self._session: _Session = open_session(artifact.onnx / "model.onnx", threads)
        self._names = [
            (f"past_key_values.{layer}.{part}", f"present.{layer}.{part}")
            for layer in range(self.spec.layers)
            for part in ("key", "value")
        ]
        inputs = {node.name: node for node in self._session.get_inputs()}
        outputs = {node.name: node for node in self._session.get_outputs()}
        self._check_interface(artifact, inputs, outputs)
        self._has_positions = "position_ids" in inputs
        # The export can be pruned to compute logits of the last position only.
        self._pruned = self.same_lengths = outputs["logits"].shape[1] == 1
        kv_type = KV_TYPES[inputs[self._names[0][0]].type]
        shape = KvShape(len(self._names), self.spec.kv_heads, self.spec.head_size, kv_type)
        wanted = min(context_length, self.spec.context_length)
        self.memory = plan_memory(free_memory(), shape.token_bytes, slots, wanted, prefix_memory)
        self.context_length = min(wanted, self.memory.row_tokens)
        self.prefill_chunk = min(prefill_chunk, self.context_length)
        self.rows = KeyValueRows(shape, slots, self.context_length)
        self._columns = np.arange(self.context_length + 1)
        self._tokens = np.zeros((slots, 1), np.int64)
        self._positions = np.zeros((slots, 1), np.int64)
        self._mask = np.zeros(slots * (self.context_length + 1), np.int64)
        self._logits = np.zeros((slots, 1, self.spec.vocab_size), np.float32)
        most = slots if self._pruned else max(self.prefill_chunk + 1, slots)
        self._prefill_logits = np.zeros((most, self.spec.vocab_size), np.float32)
        self._decode_bindings: dict[int, _Binding] = {}

    def prefill(self, row: int, tokens: Tokens, past: int) -> Logits:
        """Run `tokens` of one sequence after the `past` ones that its row holds.

        Returns:
            Logits of the last token, shape [vocabulary]; a view that the next prefill overwrites.
        """
        ids = np.ascontiguousarray(tokens, np.int64)[np.newaxis]
        return self._run(row, ids, past)[0, -1]

    def prefill_together(self, first: int, prompts: Sequence[Tokens]) -> Logits:
        """Run whole prompts in successive rows, which are at most `prefill_chunk` tokens with their padding.

        Args:
            first: The first row.
            prompts: Each of several tokens; of the same length if `same_lengths` is set.

        Returns:
            Logits of the last tokens, shape [prompts, vocabulary]; they may be a view that the next prefill overwrites.
        """
        lengths = np.array([len(prompt) for prompt in prompts])
        ids = np.zeros((len(prompts), int(lengths.max())), np.int64)
        for index, prompt in enumerate(prompts):
            ids[index, : len(prompt)] = prompt
        # The padding is computed like tokens: what it leaves behind a prompt is overwritten by the answer.
        logits = self._run(first, ids, 0)
        return logits[:, 0] if self._pruned else logits[np.arange(len(prompts)), lengths - 1]

    def decode(self, tokens: list[int], past: list[int]) -> Logits:
        """Run one token for each of the first `len(tokens)` rows, after the `past` tokens that each holds.

        Returns:
            Logits of shape [rows, vocabulary]; a view that the next step overwrites.
        """
        rows = len(tokens)
        self._tokens[:rows, 0] = tokens
        lengths = np.asarray(past)
        width = int(lengths.max()) + 1
        mask = self._mask[: rows * width].reshape(rows, width)
        np.less_equal(self._columns[:width], lengths[:, np.newaxis], out=mask)
        binding = self._decode_bindings.get(rows) or self._bind_decode(rows)
        _bind_input(binding, "attention_mask", mask)
        if self._has_positions:
            self._positions[:rows, 0] = past
        self._session.run_with_iobinding(binding)
        return self._logits[:rows, 0]

    def _run(self, first: int, ids: Tokens, past: int) -> Logits:
        """Run tokens of shape [rows, tokens]; return logits of shape [rows, 1 or tokens, vocabulary]."""
        rows, count = ids.shape
        total = past + count
        binding = self._session.io_binding()
        _bind_input(binding, "input_ids", ids)
        mask = np.ones((rows, total), np.int64)
        _bind_input(binding, "attention_mask", mask)
        positions = np.tile(np.arange(past, total, dtype=np.int64), (rows, 1))
        if self._has_positions:
            _bind_input(binding, "position_ids", positions)
        self._bind_cache(binding, first, rows)
        kept = 1 if self._pruned else count
        logits = self._prefill_logits[: rows * kept].reshape(rows, kept, -1)
        _bind_output(binding, "logits", logits)
        self._session.run_with_iobinding(binding)
        return logits

    def _bind_decode(self, rows: int) -> _Binding:
        """Bind everything of a decode step but the mask, whose width changes; kept for each number of rows."""
        binding = self._session.io_binding()
        _bind_input(binding, "input_ids", self._tokens[:rows])
        if self._has_positions:
            _bind_input(binding, "position_ids", self._positions[:rows])
        self._bind_cache(binding, 0, rows)
        _bind_output(binding, "logits", self._logits[:rows])
        self._decode_bindings[rows] = binding
        return binding

    def _bind_cache(self, binding: _Binding, first: int, rows: int) -> None:
        for index, (past, present) in enumerate(self._names):
            view = self.rows.view(index, first, rows)
            _bind_input(binding, past, view)
            _bind_output(binding, present, view)

    def _check_interface(self, artifact: Artifact, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        known = {"input_ids", "attention_mask", "position_ids", *(past for past, _ in self._names)}
        needed = {"input_ids", "attention_mask", *(past for past, _ in self._names)}
        wrong = sorted((set(inputs) - known) | (needed - set(inputs)))
        missing = sorted({"logits", *(present for _, present in self._names)} - set(outputs))
        if wrong or missing:
            raise ArtifactError(
                f"{artifact.onnx / 'model.onnx'} is not a decoder with past and present keys and values "
                f"(inputs that do not fit: {', '.join(wrong) or 'none'}; missing outputs: {', '.join(missing)})"
            )
        if outputs["logits"].type != "tensor(float)" or inputs[self._names[0][0]].type not in KV_TYPES:
            raise ArtifactError(
                f"{artifact.onnx / 'model.onnx'} has logits or keys of a type that is not served; export it for the CPU"
            )


def _bind_input(binding: _Binding, name: str, array: npt.NDArray[Any]) -> None:
    binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def _bind_output(binding: _Binding, name: str, array: npt.NDArray[Any]) -> None:
    binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
