"""Quantises a decoder's products to int8: weights by output, inputs by token while the graph runs.

A product of integers is several times as fast as one with int4 weights as soon as there are several tokens, and its
weights are closer to the trained ones; they take twice the memory. A scale for each token, not one for the whole batch,
keeps a row's results independent of the other rows.

Inputs are unsigned, weights signed: that is what processors multiply fastest. Those without VNNI lose sums that are
too large, so this export is neither checked nor served on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tunesmith_trainer.export.graph import replace_initializers
from tunesmith_trainer.export.lazy_weights import SLICE, LazyMatrix

LEVELS = 127
ZERO = 128  # the unsigned level of zero
PRODUCT = "MatMulIntegerToFloat"
SUFFIX = "_Q8"

_OPSET = 21  # the first in which a scale can be for a block
_TINY = 1e-30  # the scale of a token that is all zeros
_PREFIX = "/model/int8/"
_OUTPUT_LAYER = "/lm_head/"


@dataclass(frozen=True)
class Int8Product:
    """A product of integers.

    Attributes:
        weights: Name of its weights, int8 [inputs, outputs].
        scales: Name of their scales, float32 [outputs].
        matrices: What they are quantised from, each [inputs, outputs]; their outputs are joined.
    """

    weights: str
    scales: str
    matrices: list[LazyMatrix]

    def arrays(self) -> Iterator[tuple[str, Iterable[npt.NDArray[Any]]]]:
        """Yield the name of each tensor and its data, in pieces."""
        values = [matrix.load() for matrix in self.matrices]
        scales = [_scales(part) for part in values]
        yield self.scales, [part.numpy() for part in scales]
        yield self.weights, _levels(values, scales)


def _levels(values: list[torch.Tensor], scales: list[torch.Tensor]) -> Iterator[npt.NDArray[np.int8]]:
    """Yield rows of the levels of matrices whose outputs are joined."""
    step = max(1, SLICE // sum(part.shape[1] for part in values))
    for start in range(0, len(values[0]), step):
        rows = [
            (part[start : start + step].float() / scale).round().clamp(-LEVELS, LEVELS)
            for part, scale in zip(values, scales, strict=True)
        ]
        yield torch.cat(rows, 1).to(torch.int8).numpy()


def _scales(values: torch.Tensor) -> torch.Tensor:
    """Return the step of each output's weights, float32 [outputs]; an output without weights has any."""
    largest = values.abs().amax(0).float()
    return torch.where(largest > 0, largest / LEVELS, torch.ones_like(largest))


def replace_products(model: ModelProto, matrices: dict[str, LazyMatrix]) -> list[Int8Product]:
    """Replace the products with matrices by such of integers, in place.

    Those of one input are joined into one, whose output is split.

    Args:
        model: A decoder as the builder makes it in fp32.
        matrices: The matrices by their initializers' names; those of products are removed.

    Returns:
        The products, whose initializers have no data yet.

    Raises:
        ValueError: The builder's opset is too old.
    """
    if next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), 0) < _OPSET:
        raise ValueError(f"the builder writes graphs of an opset before {_OPSET}, which has no scale for each token")
    graph = model.graph
    groups: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in matrices:
            groups.setdefault(node.input[0], []).append(node)
    rewriter = _Rewriter(matrices)
    nodes: list[NodeProto] = []
    for node in graph.node:
        group = groups.get(node.input[0] if node.input else "", [])
        if all(node.name != member.name for member in group):
            nodes.append(node)
        elif node.name == group[0].name:
            nodes += rewriter.replacement(group)
    del graph.node[:]
    graph.node.extend(nodes)
    replace_initializers(graph, rewriter.dropped, [*rewriter.added, *_constants()])
    if all(opset.domain != "com.microsoft" for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return rewriter.products


class _Rewriter:
    """Makes the nodes of products of integers."""

    def __init__(self, matrices: dict[str, LazyMatrix]) -> None:
        self._matrices = matrices
        self._zeros: set[str] = set()
        self.products: list[Int8Product] = []
        self.dropped: set[str] = set()
        self.added: list[TensorProto] = []

    def replacement(self, group: list[NodeProto]) -> list[NodeProto]:
        """Return what computes the outputs of products with the same input."""
        first = group[0]
        name = first.name if len(group) == 1 else first.name.replace("gate_proj", "gate_up_proj")
        matrices = [self._matrices.pop(node.input[1]) for node in group]
        widths = [matrix.shape[1] for matrix in matrices]
        product = Int8Product(f"{name}/weights{SUFFIX}", f"{name}/scales{SUFFIX}", matrices)
        self.products.append(product)
        self.dropped |= {node.input[1] for node in group}
        dims = (matrices[0].shape[0], sum(widths))
        self.added.append(TensorProto(name=product.weights, data_type=TensorProto.INT8, dims=dims))
        self.added.append(TensorProto(name=product.scales, data_type=TensorProto.FLOAT, dims=dims[1:]))
        nodes, levels, scale = self._quantised(first.input[0], dims[0], is_last=name.startswith(_OUTPUT_LAYER))
        raw, joined = f"{name}/raw{SUFFIX}", f"{name}/joined{SUFFIX}" if len(group) > 1 else first.output[0]
        inputs = [levels, product.weights, f"{_PREFIX}one", product.scales, f"{_PREFIX}zero"]
        nodes.append(helper.make_node(PRODUCT, inputs, [raw], f"{name}{SUFFIX}", domain="com.microsoft"))
        nodes.append(helper.make_node("Mul", [raw, scale], [joined], f"{name}/scaled{SUFFIX}"))
        if len(group) > 1:
            sizes = numpy_helper.from_array(np.array(widths, np.int64), f"{name}/sizes{SUFFIX}")
            self.added.append(sizes)
            outputs = [node.output[0] for node in group]
            nodes.append(helper.make_node("Split", [joined, sizes.name], outputs, f"{name}/Split{SUFFIX}", axis=-1))
        return nodes

    def _quantised(self, source: str, size: int, *, is_last: bool) -> tuple[list[NodeProto], str, str]:
        """Return the nodes that quantise an input of shape [..., size], and the names of its levels and scales."""
        names = {
            part: f"{_PREFIX}{source.lstrip('/')}/{part}" for part in ("absolute", "largest", "step", "scale", "levels")
        }
        nodes = [
            helper.make_node("Abs", [source], [names["absolute"]], names["absolute"]),
            helper.make_node(
                "ReduceMax", [names["absolute"], f"{_PREFIX}axes"], [names["largest"]], names["largest"], keepdims=1
            ),
            helper.make_node("Mul", [names["largest"], f"{_PREFIX}share"], [names["step"]], names["step"]),
            helper.make_node("Max", [names["step"], f"{_PREFIX}tiny"], [names["scale"]], names["scale"]),
        ]
        # A block's zero has the shape of the scales: one tensor for all layers, one for the output layer's tokens.
        zeros = f"{_PREFIX}{'last_zeros' if is_last else 'zeros'}"
        if zeros not in self._zeros:
            self._zeros.add(zeros)
            bound = f"{_PREFIX}bound"
            nodes.append(helper.make_node("Clip", [names["scale"], bound, bound], [f"{zeros}/float"], f"{zeros}/Clip"))
            nodes.append(helper.make_node("Cast", [f"{zeros}/float"], [zeros], f"{zeros}/Cast", to=TensorProto.UINT8))
        given = [source, names["scale"], zeros]
        levels = helper.make_node("QuantizeLinear", given, [names["levels"]], names["levels"], axis=-1, block_size=size)
        return [*nodes, levels], names["levels"], names["scale"]


def _constants() -> list[TensorProto]:
    values: dict[str, npt.NDArray[Any]] = {
        "one": np.array(1, np.float32),
        "share": np.array(1 / LEVELS, np.float32),
        "tiny": np.array(_TINY, np.float32),
        "bound": np.array(ZERO, np.float32),
        "zero": np.array(ZERO, np.uint8),
        "axes": np.array([-1], np.int64),
    }
    return [numpy_helper.from_array(value, f"{_PREFIX}{name}") for name, value in values.items()]


def with_plain_products(graph: GraphProto) -> None:
    """Replace products of integers by plain ones with the same weights' names, in place, so that nothing is rounded."""
    sources = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.node:
        if node.op_type == PRODUCT:
            plain = helper.make_node("MatMul", [sources[node.input[0]], node.input[1]], list(node.output), node.name)
            node.CopyFrom(plain)
        elif node.name.endswith(f"/scaled{SUFFIX}"):
            node.CopyFrom(onnx.helper.make_node("Identity", list(node.input[:1]), list(node.output), node.name))
