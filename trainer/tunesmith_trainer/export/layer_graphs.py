"""Parts of an exported decoder's graph that run by themselves: the embedding, each layer, the output layer.

Relies on the names that the builder gives to nodes. A part's matrices are not those of the export but inputs, so that
what the graph computes is compared apart from how the matrices are rounded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from tunesmith_trainer.export.external_data import mapped
from tunesmith_trainer.export.graph import MODEL, inputs_of, with_all_logits
from tunesmith_trainer.export.int8_cache import with_plain_cache
from tunesmith_trainer.export.int8_products import with_plain_products
from tunesmith_trainer.export.int8_prompts import LEAST, splits_prompts
from tunesmith_trainer.export.wide import widen

Array = npt.NDArray[Any]
Matrix = Callable[[str], Array]

_CHUNK = 512  # tokens computed in one go, which bounds the memory of their attention
_LOOKUPS = ("Gather", "GatherBlockQuantized")
_PRODUCTS = ("MatMul", "MatMulNBits")


class LayerGraphs:
    """An export, in parts."""

    def __init__(self, folder: Path, layers: int) -> None:
        """Read the graph, but not its matrices.

        Args:
            folder: The export.
            layers: The number of the model's layers.

        Raises:
            ValueError: The graph has another number of layers, or other names.
        """
        self._folder = folder
        model = with_all_logits(onnx.load(str(folder / MODEL), load_external_data=False))
        with_plain_products(model.graph)
        self._matrices = _take_matrices_out(model.graph)
        widen(model)
        self._split: ModelProto | None = None
        if splits_prompts(model.graph):
            self._split = ModelProto()
            self._split.CopyFrom(model)
        with_plain_cache(model.graph)
        self._model = model
        decoder = json.loads((folder / "genai_config.json").read_bytes())["model"]["decoder"]
        self._past_shape = (1, int(decoder["num_key_value_heads"]), 0, int(decoder["head_size"]))
        names = {node.name: node for node in model.graph.node}
        try:
            norms = [names["/model/layers.0/input_layernorm/LayerNorm"]]
            norms += [names[f"/model/layers.{layer}/input_layernorm/SkipLayerNorm"] for layer in range(1, layers)]
            norms.append(names[f"/model/layers.{layers}/final_norm_layernorm/SkipLayerNorm"])
        except KeyError as error:
            raise ValueError(f"the exported graph has no node {error}") from None
        # The tensors whose sum is the input of each layer, and last that of the output layer.
        self._cuts = [list(norms[0].input[:1]), *(list(norm.input[:2]) for norm in norms[1:])]

    def embedding(self, ids: Array, matrix: Matrix) -> Array:
        """Return the embeddings, float32 [tokens, size], of token ids."""
        (found,) = self._run([], self._cuts[0], {"input_ids": ids[None]}, matrix)
        return np.asarray(found[0])

    def layer(self, index: int, hidden: Array, matrix: Matrix) -> Array:
        """Return a layer's output, float32 [tokens, size].

        The last tokens are computed after the others, from the keys and values of these, as when the server decodes.

        Args:
            index: The layer.
            hidden: Its input, float32 [tokens, size].
            matrix: Returns the matrix of a node, float32 [inputs, outputs]; it is asked for each several times.
        """
        past = [f"past_key_values.{index}.{part}" for part in ("key", "value")]
        present = [f"present.{index}.{part}" for part in ("key", "value")]
        kept: dict[str, Array] = dict.fromkeys(past, np.zeros(self._past_shape, np.float32))
        parts, start = [], 0
        before = max(1, len(hidden) * 3 // 4)
        for end in sorted(
            {*range(_CHUNK, before, _CHUNK), before, *range(before + _CHUNK, len(hidden), _CHUNK), len(hidden)}
        ):
            if end > start:
                feeds: dict[str, Array] = {
                    **kept,
                    "attention_mask": np.ones((1, end), np.int64),
                    "position_ids": np.arange(start, end, dtype=np.int64)[None],
                }
                outputs = [*self._cuts[index + 1], *present]
                first, second, *cache = self._run(
                    self._cuts[index], outputs, {**feeds, **self._split_in_two(index, hidden[start:end])}, matrix
                )
                parts.append(first[0] + second[0])
                kept = dict(zip(past, cache, strict=True))
            start = end
        return np.concatenate(parts)

    def prompt(self, index: int, hidden: Array, matrix: Matrix) -> tuple[Array, Array] | None:
        """Return a layer's output for a prompt, with keys and values in int8: by its own branch, and by the kernel.

        Args:
            index: The layer.
            hidden: Its input, float32 [tokens, size].
            matrix: Returns the matrix of a node, float32 [inputs, outputs].

        Returns:
            Both as float32 [tokens, size]; None if the export has no branch for prompts, or there are too few tokens.
        """
        if self._split is None or len(hidden) < LEAST:
            return None
        tokens = len(hidden)
        feeds: dict[str, Array] = {
            "input_ids": np.zeros((1, tokens), np.int64),
            "attention_mask": np.ones((1, tokens), np.int64),
            "position_ids": np.arange(tokens, dtype=np.int64)[None],
            **self._split_in_two(index, hidden),
        }
        found = []
        for room in (tokens, 0):  # without room the kernel computes it
            shape = (*self._past_shape[:2], room, self._past_shape[3])
            # The room is that of the first layer's keys.
            names = (f"{index}.key", f"{index}.value", "0.key")
            cache = {f"past_key_values.{name}": np.zeros(shape, np.int8) for name in names}
            first, second = self._run(
                self._cuts[index], self._cuts[index + 1], {**feeds, **cache}, matrix, model=self._split
            )
            found.append(first[0] + second[0])
        return found[0], found[1]

    def output(self, hidden: Array, matrix: Matrix) -> Array:
        """Return the logits, float32 [tokens, vocabulary], of the last layer's output."""
        last = len(self._cuts) - 1
        (found,) = self._run(self._cuts[last], ["logits"], self._split_in_two(last, hidden), matrix)
        return np.asarray(found[0])

    def _split_in_two(self, cut: int, hidden: Array) -> dict[str, Array]:
        """Return the tensors whose sum is a hidden state: itself, and zeros."""
        names = self._cuts[cut]
        return dict(zip(names, [hidden[None], np.zeros_like(hidden[None])], strict=False))

    def _run(
        self,
        inputs: list[str],
        outputs: list[str],
        feeds: dict[str, Array],
        matrix: Matrix,
        model: ModelProto | None = None,
    ) -> list[Array]:
        """Compute the part of the graph between two cuts."""
        import onnxruntime

        source = model or self._model
        nodes = _between(source.graph, inputs, outputs)
        used = {name for node in nodes for name in inputs_of(node)}
        graph = onnx.helper.make_graph(nodes, "part", [], [])
        for weight in source.graph.initializer:
            if weight.name in used:
                graph.initializer.append(numpy_helper.from_array(mapped(weight, self._folder), weight.name))
        values = {name: value for name, value in feeds.items() if name in used or name in inputs}
        values |= {name: matrix(node) for name, node in self._matrices.items() if name in used}
        for name, value in values.items():
            kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
            graph.input.append(onnx.helper.make_tensor_value_info(name, kind, [None] * value.ndim))
        for name in outputs:
            graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        part = onnx.helper.make_model(graph, ir_version=source.ir_version, opset_imports=source.opset_import)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found: list[Array] = session.run(outputs, values)
        return found


def _take_matrices_out(graph: GraphProto) -> dict[str, str]:
    """Let products and look-ups take their matrices from inputs, and return each input's name with its node's."""
    weights = {weight.name for weight in graph.initializer}
    transposed = {node.output[0]: node.input[0] for node in graph.node if node.op_type in ("Transpose", "Reshape")}
    found = {}
    for node in graph.node:
        kind = node.op_type
        if kind not in (*_LOOKUPS, *_PRODUCTS):
            continue
        name = node.input[0 if kind in _LOOKUPS else 1]
        if name not in weights and transposed.get(name) not in weights:
            continue
        given = f"{node.name}/matrix"
        inputs = [given, node.input[1]] if kind in _LOOKUPS else [node.input[0], given]
        plain = "Gather" if kind in _LOOKUPS else "MatMul"
        node.CopyFrom(onnx.helper.make_node(plain, inputs, list(node.output), node.name))
        found[given] = node.name
    return found


def _between(graph: GraphProto, inputs: list[str], outputs: list[str]) -> list[NodeProto]:
    """Return the nodes that compute outputs from inputs, in order."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    seen: set[int] = set()
    stack = list(outputs)
    while stack:
        name = stack.pop()
        index = makers.get(name)
        if index is None or name in inputs or index in seen:
            continue
        seen.add(index)
        stack += inputs_of(graph.node[index])
    return [graph.node[index] for index in sorted(seen)]
