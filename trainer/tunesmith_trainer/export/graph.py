"""Changes an exported decoder's graph after the builder. Relies on the names that the builder gives to nodes.

Starting kernels takes much of a small model's step, so one kernel less per layer makes it faster. The results stay
the same: a column of a matrix product does not depend on the other columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

MODEL = "model.onnx"
DATA = "model.onnx.data"

_GATE = re.compile(r"^(?P<layer>.*/mlp/)gate_proj/(?P<kind>MatMul[^/]*)$")
PRUNED = "/lm_head/prune/"
"""Beginning of the names of the nodes that keep the last token only, before the output layer."""


def attention_nodes(graph: GraphProto) -> list[NodeProto]:
    """Return the nodes that compute attention over grouped queries."""
    return [node for node in graph.node if node.op_type == "GroupQueryAttention"]


def inputs_of(node: NodeProto) -> list[str]:
    """Return what a node reads: its inputs, and what the graphs in its attributes take from around them."""
    names = list(node.input)
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            inner = attribute.g
            own = {weight.name for weight in inner.initializer}
            own.update(name for each in inner.node for name in each.output)
            names += [name for each in inner.node for name in inputs_of(each) if name not in own]
    return names


def merge_gate_and_up(graph: GraphProto) -> list[tuple[str, str, NodeProto]]:
    """Merge the two quantised products at the start of each layer's MLP into one.

    The merged product's weights, scales and zero points are new initializers without data. Their values are those of
    the gate followed by those of the up projection: the output columns are the first dimension, whether the shape is
    [N, blocks, bytes] or flat.

    Returns:
        For each changed layer the names of both products, and the one in their place.
    """
    pairs = {gate.name: (gate, up) for gate, up in _pairs(graph)}
    second = {up.name for _, up in pairs.values()}
    weights = {weight.name: weight for weight in graph.initializer}
    nodes: list[NodeProto] = []
    dropped, added, changed = set(), [], []
    for node in graph.node:
        if node.name in pairs:
            gate, up = pairs[node.name]
            merged, split = _merged(gate, up)
            nodes += [merged, split]
            dropped |= {*gate.input[1:], *up.input[1:]}
            for name, first, last in zip(merged.input[1:], gate.input[1:], up.input[1:], strict=True):
                dims = [weights[first].dims[0] + weights[last].dims[0], *weights[first].dims[1:]]
                added.append(TensorProto(name=name, data_type=weights[first].data_type, dims=dims))
            changed.append((gate.name, up.name, merged))
        elif node.name not in second:
            nodes.append(node)
    if changed:
        del graph.node[:]
        graph.node.extend(nodes)
        replace_initializers(graph, dropped, added)
    return changed


def replace_initializers(graph: GraphProto, dropped: set[str], added: list[TensorProto]) -> None:
    """Drop initializers by name, and add others."""
    kept = [weight for weight in graph.initializer if weight.name not in dropped]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *added])


def _pairs(graph: GraphProto) -> Iterator[tuple[NodeProto, NodeProto]]:
    """Yield (gate, up) of each layer whose two products have the same input and the same attributes."""
    named = {node.name: node for node in graph.node}
    weights = {weight.name for weight in graph.initializer}
    for gate in graph.node:
        match = _GATE.match(gate.name)
        if not match or gate.op_type != "MatMulNBits":
            continue
        up = named.get(f"{match['layer']}up_proj/{match['kind']}")
        if (
            up is not None
            and up.input[0] == gate.input[0]
            and _signature(up) == _signature(gate)
            and weights >= {name for name in (*gate.input[1:], *up.input[1:]) if name}
        ):
            yield gate, up


def _signature(node: NodeProto) -> tuple[object, ...]:
    attributes = sorted((attribute.name, onnx.helper.get_attribute_value(attribute)) for attribute in node.attribute)
    return node.op_type, tuple(attributes), tuple(bool(name) for name in node.input)


def _merged(gate: NodeProto, up: NodeProto) -> tuple[NodeProto, NodeProto]:
    """Return one product in place of two, and the split of its output into theirs."""
    merged = NodeProto()
    merged.CopyFrom(gate)
    merged.name = gate.name.replace("gate_proj", "gate_up_proj")
    for index in range(1, len(gate.input)):
        merged.input[index] = f"{merged.name}/input_{index}"
    merged.output[0] = f"{merged.name}/output_0"
    for attribute in merged.attribute:
        if attribute.name == "N":
            attribute.i *= 2
    outputs = [gate.output[0], up.output[0]]
    split = onnx.helper.make_node("Split", [merged.output[0]], outputs, f"{merged.name}/Split", axis=-1, num_outputs=2)
    return merged, split


def with_all_logits(model: ModelProto) -> ModelProto:
    """Make a decoder that computes only the last token's logits compute those of every token, and return it.

    Args:
        model: An export, changed in place. Its weights need not be loaded.
    """
    graph = model.graph
    pruning = [node for node in graph.node if node.name.startswith(PRUNED)]
    if not pruning:
        return model
    source, result = pruning[0].input[0], pruning[-1].output[0]
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == result:
                node.input[index] = source
    kept = [node for node in graph.node if not node.name.startswith(PRUNED)]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(kept)
    for output in graph.output:
        if output.name == "logits":
            output.type.tensor_type.shape.dim[1].Clear()
            output.type.tensor_type.shape.dim[1].dim_param = "sequence_length"
    return model
