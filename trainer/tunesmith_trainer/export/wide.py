"""Lets ONNX Runtime's CPU kernels, which lack 16-bit types, compute such an export in fp32 from its own bits."""

from __future__ import annotations

from onnx import ModelProto, NodeProto, TensorProto, helper

NARROW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def widen(model: ModelProto) -> bool:
    """Let a graph compute in fp32, in place: its 16-bit weights are cast up when they are used.

    Args:
        model: An export. Its weights need not be loaded.

    Returns:
        Whether anything changed; only 16-bit types do.
    """
    graph = model.graph
    narrow = [weight.name for weight in graph.initializer if weight.data_type in NARROW]
    if not narrow:
        return False
    names = {name: f"{name}/fp32" for name in narrow}
    casts = [
        helper.make_node("Cast", [name], [wide], f"{wide}/Cast", to=TensorProto.FLOAT) for name, wide in names.items()
    ]
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
        _widen_attributes(node)
    nodes = [*casts, *graph.node]
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(kept)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in NARROW:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return True


def _widen_attributes(node: NodeProto) -> None:
    """Let a cast to a 16-bit type be one to fp32, and a constant of such a type one of fp32."""
    for attribute in node.attribute:
        if attribute.name == "to" and attribute.i in NARROW:
            attribute.i = TensorProto.FLOAT
        elif attribute.name == "value" and attribute.t.data_type in NARROW:
            from onnx import numpy_helper

            values = numpy_helper.to_array(attribute.t).astype("float32")
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
