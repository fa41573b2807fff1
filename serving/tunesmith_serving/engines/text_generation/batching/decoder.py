"""The exported decoder on ONNX Runtime, computing on rows of key-value buffers that all requests share.

Each buffer is bound as past and as present of its layer, so a step writes its new keys and values in place and nothing
is copied. GroupQueryAttention takes each row's length from `attention_mask`, so rows of different lengths decode
together. In `model.onnx` it takes several tokens of several rows only if none of them has a past, and of a single row
otherwise. `model.ragged.onnx` has inputs for how many tokens of a row are new and whose logits are wanted.

chunks.py says what results depend on in fp32. With int4 the kernel for a single token also rounds its inputs otherwise
than the one for several, so that logits differ by up to 0.1.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.engines.providers import CPU_PROVIDER, Provider
from tunesmith_serving.engines.text_generation.adapters.modules import read_modules
from tunesmith_serving.engines.text_generation.adapters.rows import AdapterRows, RowAdapter
from tunesmith_serving.engines.text_generation.adapters.weights import Adapter
from tunesmith_serving.engines.text_generation.batching.attention import attention_for
from tunesmith_serving.engines.text_generation.batching.binding import Binding, bind_input
from tunesmith_serving.engines.text_generation.batching.chunks import GRAIN
from tunesmith_serving.engines.text_generation.batching.graphs import open_graphs
from tunesmith_serving.engines.text_generation.batching.interface import (
    KV_TYPES,
    LOGITS_TYPES,
    ONNX_TYPES,
    check_interface,
)
from tunesmith_serving.engines.text_generation.batching.kv.budget import plan_memory
from tunesmith_serving.engines.text_generation.batching.kv.device import DeviceRows
from tunesmith_serving.engines.text_generation.batching.kv.rows import KeyValueRows, KvShape
from tunesmith_serving.engines.text_generation.batching.ragged import RaggedRuns, attention_mask
from tunesmith_serving.engines.text_generation.batching.runs import KeptRuns, Run, Runs
from tunesmith_serving.engines.text_generation.batching.spec import read_spec
from tunesmith_serving.runtime.memory import free_memory

Tokens = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]
_MOST_CHUNKS = 4
"""Chunks that a run may take of several prompts; their logits, of every token in some exports, must stay few."""


class OnnxDecoder:
    """The inference sessions and the key-value rows of all slots.

    Attributes:
        spec: Sizes of the model.
        slots: Number of rows.
        memory: How much of the free memory keys and values may take.
        wanted_context: The most tokens of a row by the settings and the model.
        context_length: The most tokens of a row; less than wanted if the memory holds no more.
        prefill_chunk: The most tokens of a prompt in a run; a multiple of 16.
        prefill_tokens: The most prompt tokens of a run, of all rows together.
        rows: The keys and values.
        same_lengths: Whether only prompts of the same length can be computed in one run.
        ragged: Whether rows can have several new tokens each.
    """

    def __init__(
        self,
        artifact: Artifact,
        slots: int,
        context_length: int,
        prefill_chunk: int,
        threads: int,
        prefix_memory: int | None = 0,
        provider: Provider = CPU_PROVIDER,
        batch: Artifact | None = None,
        draft_token_bytes: int = 0,
    ) -> None:
        """Load the model and allocate the buffers.

        Args:
            artifact: What holds the model.
            slots: Number of rows.
            context_length: The most tokens of a row.
            prefill_chunk: The most prompt tokens of a run; rounded up to a multiple of 16.
            threads: Threads that compute together; 0 for all processors that this process may use.
            prefix_memory: Bytes of the prefix cache, which takes part of the memory; None for a share of what is free.
            provider: The execution provider that computes the model.
            batch: What holds another export of the model for runs of several tokens.
            draft_token_bytes: Bytes of a draft model's keys and values of one token, which share the memory.

        Raises:
            ArtifactError: The model does not load, or does not have the inputs and outputs of a generative export.
            MemoryShortageError: The model or the key-value buffers do not fit in memory.
        """
        self.spec = read_spec(artifact)
        self.slots = slots
        self.wanted_context = min(context_length, self.spec.context_length)
        self.prefill_chunk = -(-prefill_chunk // GRAIN) * GRAIN
        with attention_for(self.spec.heads, max(_MOST_CHUNKS * self.prefill_chunk, slots), self.wanted_context):
            graphs = open_graphs(artifact, batch, threads, provider)
        self.ragged, self._path = graphs.ragged, graphs.path
        self._names = [
            (f"past_key_values.{layer}.{part}", f"present.{layer}.{part}")
            for layer in range(self.spec.layers)
            for part in ("key", "value")
        ]
        inputs = {node.name: node for node in graphs.first.get_inputs()}
        outputs = {node.name: node for node in graphs.first.get_outputs()}
        check_interface(self._path, self._names, inputs, outputs, provider)
        modules = read_modules(artifact)
        modules.check_graph(artifact, {node.name: node for node in graphs.first.get_overridable_initializers()})
        self._runs = Runs(graphs, AdapterRows(modules, slots, copies=provider.copies_inputs))
        self._has_positions = "position_ids" in inputs
        # The export can be pruned to compute logits of the last position only.
        self._pruned = outputs["logits"].shape[1] == 1
        self.same_lengths = self._pruned and not self.ragged
        self.prefill_tokens = self.prefill_chunk * (_MOST_CHUNKS if self._pruned else 1)
        kv_type = inputs[self._names[0][0]].type
        shape = KvShape(len(self._names), self.spec.kv_heads, self.spec.head_size, KV_TYPES[kv_type])
        self._provider, on_device = provider, provider.on_device
        free = None if on_device else free_memory()
        prefix_memory = 0 if on_device else prefix_memory
        self.memory = plan_memory(free, shape.token_bytes, slots, self.wanted_context, prefix_memory, draft_token_bytes)
        self.context_length = min(self.wanted_context, self.memory.row_tokens)
        self.rows: KeyValueRows = (
            DeviceRows(shape, slots, self.context_length, provider, ONNX_TYPES[kv_type])
            if on_device
            else KeyValueRows(shape, slots, self.context_length)
        )
        self._columns = np.arange(self.context_length + 1)
        self._tokens = np.zeros((slots, 1), np.int64)
        self._positions = np.zeros((slots, 1), np.int64)
        self._mask = np.zeros(slots * (self.context_length + 1), np.int64)
        dtype = LOGITS_TYPES[outputs["logits"].type]
        self._logits = np.zeros((slots, 1, self.spec.vocab_size), dtype)
        # Short prompts are computed together, so a run can have more tokens than the context of one row.
        most = slots if self._pruned else max(min(self.prefill_chunk, slots * self.context_length), slots)
        self._prefill_logits = np.zeros((most, self.spec.vocab_size), dtype)
        self._decode_runs = KeptRuns(self._runs, self._prepare_decode)
        self._first_tokens = np.array([[(row, 0)] for row in range(slots)], np.int64)
        self._ragged: RaggedRuns | None = None
        if self.ragged:
            runs = KeptRuns(self._runs, lambda run, rows: self._bind_cache(run.binding, 0, rows))
            self._ragged = RaggedRuns(runs, self._has_positions, slots, self.spec.vocab_size)

    def prefill(self, row: int, tokens: Tokens, past: int, adapter: Adapter | None = None) -> Logits:
        """Run `tokens` of one sequence after the `past` ones that its row holds.

        Returns:
            Logits of the last token, shape [vocabulary]; a view that the next prefill overwrites.

        Raises:
            UnreadableAdapterError: The adapter has changed or cannot be read.
        """
        ids = np.ascontiguousarray(tokens, np.int64)[np.newaxis]
        return self._run(row, ids, np.array([past]), [adapter])[0, -1]

    def prefill_together(
        self,
        first: int,
        prompts: Sequence[Tokens],
        adapters: Sequence[Adapter | None],
        past: Sequence[int],
    ) -> Logits:
        """Run the ends of prompts in successive rows, which are at most `prefill_tokens` with their padding.

        Args:
            first: The first row.
            prompts: Each of several tokens; of the same length if `same_lengths` is set.
            adapters: What computes each of them besides the base.
            past: How many tokens each row holds, with the longest prompt at most the context; 0 where `ragged` is not
                set.

        Returns:
            Logits of the last tokens, shape [prompts, vocabulary]; they may be a view that the next prefill overwrites.

        Raises:
            UnreadableAdapterError: An adapter has changed or cannot be read.
        """
        lengths = np.array([len(prompt) for prompt in prompts])
        ids = np.zeros((len(prompts), int(lengths.max())), np.int64)
        for index, prompt in enumerate(prompts):
            ids[index, : len(prompt)] = prompt
        # What is computed of the padding, and left behind a prompt, is overwritten by the answer.
        logits = self._run(first, ids, np.asarray(past), adapters, lengths - 1)
        return logits[:, 0] if self._pruned else logits[np.arange(len(prompts)), lengths - 1]

    def rows_with(self, adapter: Adapter | None) -> list[int]:
        """Return the rows in which the matrices of an adapter are from earlier; none without an adapter."""
        return self._runs.rows_with(adapter)

    def decode(self, tokens: list[int], past: list[int], adapters: Sequence[RowAdapter]) -> Logits:
        """Run one token for each of the first `len(tokens)` rows, after the `past` tokens that each holds.

        Args:
            tokens: A token for each row.
            past: How many tokens each row holds.
            adapters: What computes each row besides the base.

        Returns:
            Logits of shape [rows, vocabulary]; a view that the next step overwrites.

        Raises:
            UnreadableAdapterError: An adapter has changed or cannot be read. No row is changed.
        """
        rows = len(tokens)
        self._tokens[:rows, 0] = tokens
        lengths = np.asarray(past)
        width = int(lengths.max()) + 1
        mask = self._mask[: rows * width].reshape(rows, width)
        np.less_equal(self._columns[:width], lengths[:, np.newaxis], out=mask)
        run = self._decode_runs.begin(adapters, rows)
        run.read(attention_mask=mask)
        if self._has_positions:
            self._positions[:rows, 0] = past
        if self._provider.copies_inputs:
            self._bind_tokens(run.binding, rows)
        if self._provider.copies_cache:
            self._bind_cache(run.binding, 0, rows)
        run.compute()
        return self._logits[:rows, 0].astype(np.float32, copy=False)

    def decode_several(
        self,
        tokens: Sequence[Sequence[int]],
        past: list[int],
        adapters: Sequence[RowAdapter],
        wanted: Sequence[int],
        last_only: bool = False,
    ) -> Logits:
        """Run one or several tokens for each of the first `len(tokens)` rows; only if `ragged` is set.

        Args:
            tokens: The tokens of each row.
            past: How many tokens each row holds before them; with the tokens of the longest row, at most the context.
            adapters: What computes each row besides the base.
            wanted: The rows whose logits are computed. Without `last_only` they have at most `MOST_DRAFTS` tokens
                besides one each.
            last_only: Whether only the logits of the last token of each row are computed.

        Returns:
            Logits of these tokens of the wanted rows, shape [tokens, vocabulary]; a view that the next step overwrites.

        Raises:
            UnreadableAdapterError: An adapter has changed or cannot be read. No row is changed.
        """
        if self._ragged is None:
            raise RuntimeError("the exported model takes one token of each row")
        return self._ragged.run(tokens, past, adapters, wanted, last_only)

    def _run(
        self,
        first: int,
        ids: Tokens,
        past: npt.NDArray[np.intp],
        adapters: Sequence[Adapter | None],
        last: npt.NDArray[np.intp] | None = None,
    ) -> Logits:
        """Run tokens of shape [rows, tokens]; return logits of shape [rows, 1 or tokens, vocabulary].

        `past` is how many tokens each row holds. Where there are several rows, `last` is the last position of each that
        is not padding.
        """
        rows, count = ids.shape
        run = self._runs.begin(first, adapters, ids.size)
        lengths = np.full(rows, count, np.int32)
        if last is not None and past.any():
            lengths = (last + 1).astype(np.int32)
            run.read(query_seqlens=lengths)
        mask = attention_mask(past + lengths)  # what is bound must stay in memory until the run has ended
        run.read(input_ids=ids, attention_mask=mask)
        positions = past[:, np.newaxis] + np.arange(count, dtype=np.int64)
        if self._has_positions:
            run.read(position_ids=positions)
        self._bind_cache(run.binding, first, rows)
        if self.ragged and last is not None:
            indices = np.stack([np.arange(rows), last], axis=1)[:, np.newaxis]
            run.read(logits_indices=indices)
        kept = 1 if self._pruned else count
        logits = self._prefill_logits[: rows * kept].reshape(rows, kept, -1)
        run.write(logits=logits)
        run.compute()
        return logits.astype(np.float32, copy=False)

    def _prepare_decode(self, run: Run, rows: int) -> None:
        """Bind everything of a decode step but the mask, whose width changes."""
        self._bind_tokens(run.binding, rows)
        self._bind_cache(run.binding, 0, rows)
        if self.ragged:
            run.read(logits_indices=self._first_tokens[:rows])
        run.write(logits=self._logits[:rows])

    def _bind_tokens(self, binding: Binding, rows: int) -> None:
        bind_input(binding, "input_ids", self._tokens[:rows])
        if self._has_positions:
            bind_input(binding, "position_ids", self._positions[:rows])

    def _bind_cache(self, binding: Binding, first: int, rows: int) -> None:
        for index, (past, present) in enumerate(self._names):
            self.rows.bind(binding, (past, present), index, first, rows)
