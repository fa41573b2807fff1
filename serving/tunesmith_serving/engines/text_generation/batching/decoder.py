"""The exported decoder on ONNX Runtime, with one key-value buffer per layer shared by all slots.

Each buffer of shape [slots, heads, context, head size] is bound as past and as present of its layer, so a step writes
its new keys and values in place and nothing is copied. GroupQueryAttention takes each row's length from
`attention_mask`, so rows of different lengths decode together. A prefill binds the one row of its slot.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.engines.session import open_session
from tunesmith_serving.engines.text_generation.adapters.modules import read_modules
from tunesmith_serving.engines.text_generation.adapters.rows import AdapterRows
from tunesmith_serving.runtime.errors import ArtifactError, MemoryShortageError

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

    def get_overridable_initializers(self) -> list[Any]: ...

    def get_outputs(self) -> list[Any]: ...


@dataclass(frozen=True)
class DecoderSpec:
    """The sizes of the model, from genai_config.json."""

    layers: int
    kv_heads: int
    head_size: int
    vocab_size: int
    context_length: int
    eos_token_ids: frozenset[int]


def read_spec(artifact: Artifact) -> DecoderSpec:
    """Read the sizes of the model from genai_config.json.

    Raises:
        ArtifactError: A size is missing or not a whole number.
    """
    config = artifact.read_json("genai_config.json")
    path = artifact.onnx / "genai_config.json"
    try:
        model = config["model"]
        decoder = model["decoder"]
        eos = model.get("eos_token_id", [])
        return DecoderSpec(
            layers=int(decoder["num_hidden_layers"]),
            kv_heads=int(decoder["num_key_value_heads"]),
            head_size=int(decoder["head_size"]),
            vocab_size=int(model["vocab_size"]),
            context_length=int(model["context_length"]),
            eos_token_ids=frozenset(int(token) for token in (eos if isinstance(eos, list) else [eos])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} lacks a usable {error}; export the model again") from None


class OnnxDecoder:
    """One inference session and the key-value rows of all slots.

    Attributes:
        adapters: The adapter of each row.
    """

    def __init__(self, artifact: Artifact, slots: int, context_length: int, prefill_chunk: int, threads: int) -> None:
        """Load the model and allocate the buffers.

        Raises:
            ArtifactError: The model does not load, or does not have the inputs and outputs of a generative export.
            MemoryShortageError: The model or the key-value buffers do not fit in memory.
        """
        self.spec = read_spec(artifact)
        self.slots = slots
        self.context_length = min(context_length, self.spec.context_length)
        self.prefill_chunk = min(prefill_chunk, self.context_length)
        self._session: _Session = open_session(artifact.onnx / "model.onnx", threads)
        self._names = [
            (f"past_key_values.{layer}.{part}", f"present.{layer}.{part}")
            for layer in range(self.spec.layers)
            for part in ("key", "value")
        ]
        inputs = {node.name: node for node in self._session.get_inputs()}
        outputs = {node.name: node for node in self._session.get_outputs()}
        self._check_interface(artifact, inputs, outputs)
        modules = read_modules(artifact)
        modules.check_graph(artifact, {node.name: node for node in self._session.get_overridable_initializers()})
        self.adapters = AdapterRows(modules, slots)
        self._kv_type = KV_TYPES[inputs[self._names[0][0]].type]
        self._has_positions = "position_ids" in inputs
        # The export can be pruned to compute logits of the last position only.
        self._pruned = outputs["logits"].shape[1] == 1
        self._cache = self._allocate_cache()
        self._columns = np.arange(self.context_length + 1)
        self._tokens = np.zeros((slots, 1), np.int64)
        self._positions = np.zeros((slots, 1), np.int64)
        self._mask = np.zeros(slots * (self.context_length + 1), np.int64)
        rows = 1 if self._pruned else self.prefill_chunk
        self._logits = np.zeros((slots, 1, self.spec.vocab_size), np.float32)
        self._prefill_logits = np.zeros((rows, self.spec.vocab_size), np.float32)
        self._decode_bindings: dict[int, _Binding] = {}

    def prefill(self, row: int, tokens: npt.NDArray[np.int64], past: int) -> Logits:
        """Run `tokens` of one sequence after the `past` ones that its row holds.

        Returns:
            Logits of the last token, shape [vocabulary]; a view that the next prefill overwrites.

        Raises:
            AdapterError: The adapter of the row cannot be read.
        """
        count = len(tokens)
        ids = np.ascontiguousarray(tokens, np.int64).reshape(1, count)
        total = past + count
        binding = self._session.io_binding()
        _bind_input(binding, "input_ids", ids)
        mask = np.ones((1, total), np.int64)
        _bind_input(binding, "attention_mask", mask)
        positions = np.arange(past, total, dtype=np.int64).reshape(1, count)
        if self._has_positions:
            _bind_input(binding, "position_ids", positions)
        self._bind_cache(binding, row, 1)
        self.adapters.bind(binding, row, 1)
        logits = self._prefill_logits[: 1 if self._pruned else count]
        _bind_output(binding, "logits", logits[np.newaxis])
        self._session.run_with_iobinding(binding)
        return logits[-1]

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
        self.adapters.bind(binding, 0, rows)
        if self._has_positions:
            self._positions[:rows, 0] = past
        self._session.run_with_iobinding(binding)
        return self._logits[:rows, 0]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` keys and values of one row to another, which gets its adapter too."""
        self.adapters.move(source, target)
        self._cache[:, target, :, :length] = self._cache[:, source, :, :length]

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
            view = self._cache[index, first : first + rows]
            _bind_input(binding, past, view)
            _bind_output(binding, present, view)

    def _allocate_cache(self) -> npt.NDArray[Any]:
        shape = (len(self._names), self.slots, self.spec.kv_heads, self.context_length, self.spec.head_size)
        try:
            return np.zeros(shape, self._kv_type)
        except MemoryError:
            gib = np.prod(shape, dtype=np.float64) * np.dtype(self._kv_type).itemsize / 2**30
            raise MemoryShortageError(
                f"the key-value cache needs {gib:.1f} GiB ({self.slots} slots of {self.context_length} tokens); "
                "lower maxBatchSize or contextLength"
            ) from None

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
