"""Prompts of a decoder that keeps keys and values in int8, at the speed of one that keeps them in fp32.

ONNX Runtime's attention over keys and values in int8 multiplies a token at a time: right for a step of an answer, and
up to three times as long for a prompt. So an `If` around each attention computes runs of several tokens otherwise: it
rounds the new keys and values, writes them into the cache, and computes in fp32 from what the cache holds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper, numpy_helper

from tunesmith_trainer.export.graph import attention_nodes

LEAST = 32
"""New tokens of a row from which a run counts as one of prompts."""
SCALE_INPUTS = (12, 13)
_PREFIX = "/model/int8_prompts/"
_CACHE_INPUTS, _SEQLENS, _COS, _SIN, _QUERY_SEQLENS = (3, 4), 5, 7, 8, 16
_UNKNOWN_INPUTS = (9, 10, 14, 15)  # positions, a bias, and norms of queries and keys
_QUANTISATION = ("k_quant_type", "v_quant_type", "kv_cache_bit_width")
_DOMAIN = "com.microsoft"


def split_prompts(graph: GraphProto) -> bool:
    """Let a graph compute runs of at least `LEAST` tokens a row in fp32, in place.

    They are computed so only where the cache that is given has room for them; else ONNX Runtime's kernel grows it.

    Args:
        graph: A decoder that keeps keys and values in int8.

    Returns:
        Whether the graph could be changed: each attention has inputs that this module knows.
    """
    weights = {value.name: value for value in graph.initializer}
    attention = attention_nodes(graph)
    if any(_input(node, index) for node in attention for index in _UNKNOWN_INPUTS):
        return False
    if any(_attribute(node, "do_rotary", 0) and node.input[_COS] not in weights for node in attention):
        return False
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type != attention[0].op_type:
            nodes.append(node)
            continue
        if node.name == attention[0].name:
            nodes += _positions(graph, node, weights)
        then = _Prompts(node, weights).graph()
        kernel = NodeProto()
        kernel.CopyFrom(node)
        kernel.output[:] = [f"{name}/of_step" for name in node.output]
        steps = helper.make_graph([kernel], "steps", [], _outputs(kernel.output))
        nodes.append(
            helper.make_node(
                "If", [f"{_PREFIX}condition"], node.output, f"{node.name}/If", then_branch=then, else_branch=steps
            )
        )
    del graph.node[:]
    graph.node.extend(nodes)
    return True


def splits_prompts(graph: GraphProto) -> bool:
    """Return whether `split_prompts` has changed a graph."""
    return any(_is_split(node) for node in graph.node)


def join_prompts(graph: GraphProto) -> None:
    """Undo `split_prompts`, in place."""
    nodes: list[NodeProto] = []
    for node in graph.node:
        if _is_split(node):
            steps = next(attribute.g for attribute in node.attribute if attribute.name == "else_branch")
            (kernel,) = steps.node
            kernel.output[:] = node.output
            nodes.append(kernel)
        elif not node.name.startswith(_PREFIX):
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    kept = [value for value in graph.initializer if not value.name.startswith(_PREFIX)]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _is_split(node: NodeProto) -> bool:
    return node.op_type == "If" and node.input[0] == f"{_PREFIX}condition"


def _positions(graph: GraphProto, node: NodeProto, weights: dict[str, TensorProto]) -> list[NodeProto]:
    """Return nodes for what all layers need: whether to compute as a prompt, and where new tokens go.

    Their outputs are `condition`; `needed`, int64 [1], for how many tokens a row of the cache needs room; `positions`,
    int64 [rows, tokens]; and `places`, int64 [rows, heads, tokens, 3], which are row, head and position.
    """
    heads = weights[node.input[SCALE_INPUTS[0]]].dims[0]
    constants = {
        "zero": np.int64(0),
        "one": np.int64(1),
        "two": np.int64(2),
        "none": np.asarray([0], np.int64),
        "single": np.asarray([1], np.int64),
        "one_token": np.asarray([1], np.int32),
        "least": np.int64(LEAST),
        "heads": np.arange(heads, dtype=np.int64).reshape(1, heads, 1, 1),
        "as_rows": np.asarray([-1, 1, 1, 1], np.int64),
        "as_column": np.asarray([-1, 1], np.int64),
        "as_tokens": np.asarray([0, 1, -1, 1], np.int64),
    }
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), _PREFIX + name) for name, value in constants.items()
    )
    make = _Nodes(_PREFIX)
    make("Shape", ["input_ids"], "shape", start=0, end=2)
    make("Gather", [_PREFIX + "shape", _PREFIX + "zero"], "rows", axis=0)
    make("Gather", [_PREFIX + "shape", _PREFIX + "one"], "tokens", axis=0)
    lengths = _input(node, _QUERY_SEQLENS) or make("Cast", [_PREFIX + "tokens"], "new_tokens", to=TensorProto.INT32)
    make("Add", [node.input[_SEQLENS], _PREFIX + "one_token"], "row_tokens")
    make("Sub", [_PREFIX + "row_tokens", lengths], "before_int32")
    make("Cast", [_PREFIX + "before_int32"], "before", to=TensorProto.INT64)
    make("Reshape", [_PREFIX + "before", _PREFIX + "as_column"], "before_column")
    make("ReduceMax", [_PREFIX + "before_column"], "most_before", keepdims=0)
    make("Add", [_PREFIX + "most_before", _PREFIX + "tokens"], "needed_tokens")
    make("Reshape", [_PREFIX + "needed_tokens", _PREFIX + "single"], "needed")
    make("Shape", [node.input[_CACHE_INPUTS[0]]], "cache")
    make("Gather", [_PREFIX + "cache", _PREFIX + "two"], "capacity", axis=0)
    make("GreaterOrEqual", [_PREFIX + "capacity", _PREFIX + "needed_tokens"], "has_room")
    make("GreaterOrEqual", [_PREFIX + "tokens", _PREFIX + "least"], "is_long")
    make("And", [_PREFIX + "has_room", _PREFIX + "is_long"], "condition")
    make("Range", [_PREFIX + "zero", _PREFIX + "tokens", _PREFIX + "one"], "token_range")
    make("Add", [_PREFIX + "before_column", _PREFIX + "token_range"], "positions")
    make("Reshape", [_PREFIX + "positions", _PREFIX + "as_tokens"], "token_places")
    make("Range", [_PREFIX + "zero", _PREFIX + "rows", _PREFIX + "one"], "row_range")
    make("Reshape", [_PREFIX + "row_range", _PREFIX + "as_rows"], "row_places")
    # Adding zeros of the others' shapes brings each to [rows, heads, tokens, 1].
    parts = [make("Mul", [_PREFIX + part, _PREFIX + "none"], f"{part}/zeros") for part in ("token_places", "heads")]
    zeros = make("Add", parts, "zeros")
    columns = [make("Add", [_PREFIX + part, zeros], f"{part}/all") for part in ("row_places", "heads", "token_places")]
    make("Concat", columns, "places", axis=-1)
    return make.nodes


class _Nodes:
    """Nodes, whose names and outputs begin alike."""

    def __init__(self, prefix: str) -> None:
        self.nodes: list[NodeProto] = []
        self._prefix = prefix

    def __call__(self, kind: str, inputs: list[str], name: str, outputs: int = 1, **attributes: object) -> str:
        """Add a node; return the name of its first output. Further ones end in 1, 2 and so on."""
        full = self._prefix + name
        made = [full, *(f"{full}{index}" for index in range(1, outputs))]
        domain = _DOMAIN if kind in ("RotaryEmbedding", "GroupQueryAttention") else ""
        self.nodes.append(helper.make_node(kind, inputs, made, full, domain=domain, **attributes))
        return full


class _Prompts:
    """How one attention computes prompts.

    What is constant is part of the branch: each outer value costs some time in every step.
    """

    def __init__(self, node: NodeProto, weights: dict[str, TensorProto]) -> None:
        self._node = node
        self._weights = weights
        self._make = _Nodes(f"{node.name}/prompts/")
        self._constants: list[TensorProto] = []
        self._scales = [numpy_helper.to_array(weights[node.input[index]]) for index in SCALE_INPUTS]
        self._kv_heads, _, self._size = self._scales[0].shape
        self._heads = int(_attribute(node, "num_heads", 0))

    def graph(self) -> GraphProto:
        """Return the branch."""
        make, node = self._make, self._node
        widths = [self._heads * self._size, *[self._kv_heads * self._size] * 2]
        if node.input[1]:
            query = self._rotated("query", node.input[0], self._heads)
            key, value = self._rotated("key", node.input[1], self._kv_heads), node.input[2]
        else:
            parts = self._constant("parts", np.asarray([widths[0] + widths[1], widths[2]], np.int64))
            both = make("Split", [node.input[0], parts], "parts", 2, axis=-1)
            both, value = self._rotated("both", both, self._heads + self._kv_heads), f"{both}1"
            query = make(
                "Split", [both, self._constant("widths", np.asarray(widths[:2], np.int64))], "query", 2, axis=-1
            )
            key = f"{query}1"
        flat = np.concatenate([scale.ravel() for scale in self._scales])
        new = make("Concat", [key, value], "new", axis=-1)
        new = make("Mul", [new, self._constant("inverse", 1 / flat)], "scaled")
        one, zero = self._constant("step", np.float32(1)), self._constant("middle", np.int8(0))
        levels = make("QuantizeLinear", [new, one, zero], "levels")
        # Attention is computed from levels: the keys' scales are in the query, the values' come after it.
        query = make("Mul", [query, self._by_query(0)], "scaled_query")
        packed = make("Concat", [query, make("Cast", [levels], "new_float", to=TensorProto.FLOAT)], "packed", axis=-1)
        written = self._written(levels)
        held = [self._held(index) for index in range(2)]
        rest = [name if index not in SCALE_INPUTS else "" for index, name in enumerate(node.input)][_SEQLENS:]
        rest[_COS - _SEQLENS] = rest[_SIN - _SEQLENS] = ""
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name not in _QUANTISATION}
        attributes["do_rotary"] = 0
        of_levels = make("GroupQueryAttention", [packed, "", "", *held, *rest], "attention", 3, **attributes)
        attention = make("Mul", [of_levels, self._by_query(1)], "result")
        return helper.make_graph(make.nodes, "prompts", [], _outputs([attention, *written]), self._constants)

    def _by_query(self, index: int) -> str:
        """Return the scales of keys or of values for each head of the query, which share them in groups."""
        scales = np.repeat(self._scales[index], self._heads // self._kv_heads, axis=0)
        return self._constant(f"scales{index}", scales.ravel())

    def _rotated(self, name: str, values: str, heads: int) -> str:
        """Return vectors of so many heads, rotated by their positions if the model does so."""
        if not _attribute(self._node, "do_rotary", 0):
            return values
        cos, sin = self._node.input[_COS], self._node.input[_SIN]
        rotated = 2 * self._weights[cos].dims[1]
        return self._make(
            "RotaryEmbedding",
            [values, f"{_PREFIX}positions", cos, sin],
            f"rotated_{name}",
            num_heads=heads,
            rotary_embedding_dim=rotated if rotated < self._size else 0,
            interleaved=_attribute(self._node, "rotary_interleaved", 0),
        )

    def _written(self, levels: str) -> list[str]:
        """Return the caches of keys and values with the new ones, int8 [rows, tokens, heads * size]."""
        make, heads = self._make, 2 * self._kv_heads
        shape = self._constant("shape", np.asarray([0, 0, heads, self._size], np.int64))
        by_head = make("Transpose", [make("Reshape", [levels, shape], "by_token")], "by_head", perm=[0, 2, 1, 3])
        halves = self._constant("halves", np.asarray([self._kv_heads] * 2, np.int64))
        key = make("Split", [by_head, halves], "half", 2, axis=1)
        # Where cache and result are the same memory, only the new ones are written.
        return [
            make("ScatterND", [self._node.input[cache], f"{_PREFIX}places", part], f"written{index}")
            for index, (cache, part) in enumerate(zip(_CACHE_INPUTS, (key, f"{key}1"), strict=True))
        ]

    def _held(self, index: int) -> str:
        """Return the levels of keys or values in the cache, in fp32; those beyond a row's own are never read."""
        make = self._make
        bounds = [self._constant(name, np.asarray([number], np.int64)) for name, number in (("start", 0), ("axis", 2))]
        held = make(
            "Slice", [self._node.input[_CACHE_INPUTS[index]], bounds[0], f"{_PREFIX}needed", bounds[1]], f"part{index}"
        )
        return make("Cast", [held], f"held{index}", to=TensorProto.FLOAT)

    def _constant(self, name: str, value: npt.ArrayLike) -> str:
        full = f"{self._node.name}/prompts/{name}/constant"
        if full not in (constant.name for constant in self._constants):
            self._constants.append(numpy_helper.from_array(np.asarray(value), full))
        return full


def _outputs(names: list[str]) -> list[object]:
    """Return what a branch gives: attention, and the caches of keys and values."""
    types = (TensorProto.FLOAT, TensorProto.INT8, TensorProto.INT8)
    return [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(names, types, strict=True)]


def _input(node: NodeProto, index: int) -> str:
    return node.input[index] if index < len(node.input) else ""


def _attribute(node: NodeProto, name: str, default: int) -> int:
    found: list[AttributeProto] = [attribute for attribute in node.attribute if attribute.name == name]
    return int(found[0].i) if found else default
