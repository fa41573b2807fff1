"""A second graph of an exported decoder, for runs over rows that get different numbers of new tokens.

`model.onnx` takes several new tokens after a past only of a single row, and computes the logits of the last token
only. `model.ragged.onnx` has two more inputs, which may be left out, and uses the same file of weights:

- `query_seqlens`, int32 [rows]: how many of a row's tokens are new. The others, at the row's end, are padding. Left
  out, all are.
- `logits_indices`, int64 [logits, 1, 2]: pairs of row and position whose logits are computed, float32 [logits, 1,
  vocabulary]. Left out, only those of the first row's last token are.

Only ONNX Runtime's kernels for CPUs and CUDA know such rows, and only from version 1.32 on. Others load `model.onnx`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from tunesmith_trainer.export.graph import MODEL, PRUNED, attention_nodes

RAGGED = "model.ragged.onnx"
LOGITS_INDICES = "logits_indices"
QUERY_SEQLENS = "query_seqlens"

_SEQLENS_INPUT, _QUERY_SEQLENS_INPUT = 5, 16
_PREFIX = "/model/query_seqlens/"


def write_ragged(folder: Path) -> bool:
    """Write `model.ragged.onnx` beside the `model.onnx` of an export.

    It is made from `model.onnx`, so whoever changes that graph calls this again afterwards.

    Args:
        folder: An export. Its file of weights is neither read nor changed.

    Returns:
        Whether the graph could be written: it is a decoder with attention over grouped queries, and computes the logits
        of the last token only.
    """
    model = onnx.load(str(folder / MODEL), load_external_data=False)
    if not make_ragged(model.graph):
        return False
    onnx.save(model, str(folder / RAGGED))
    return True


def make_ragged(graph: GraphProto) -> bool:
    """Give a graph the two inputs, in place; return whether it is one that can have them."""
    pruning = [node for node in graph.node if node.name.startswith(PRUNED)]
    attention = attention_nodes(graph)
    if not pruning or not attention:
        return False
    for node in attention:
        node.input.extend([""] * (_QUERY_SEQLENS_INPUT - len(node.input)))
        node.input.append(f"{_PREFIX}Min/output_0")
    chosen = helper.make_node(
        "GatherND", [pruning[0].input[0], LOGITS_INDICES], [pruning[-1].output[0]], f"{PRUNED}GatherND"
    )
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node is attention[0] or node.name == attention[0].name:
            nodes += _lengths(node.input[_SEQLENS_INPUT])
        if not node.name.startswith(PRUNED):
            nodes.append(node)
        elif node.name == pruning[0].name:
            nodes.append(chosen)
    del graph.node[:]
    graph.node.extend(nodes)
    _add_inputs(graph)
    _forget_shapes(graph)
    return True


def _lengths(seqlens: str) -> list[NodeProto]:
    """Return nodes that limit `query_seqlens` to what a row has, as the kernel demands.

    Args:
        seqlens: Name of the tensor with each row's number of tokens, new and past, less one.
    """
    names = {part: f"{_PREFIX}{part}/output_0" for part in ("Shape", "Cast", "Add", "Min")}
    return [
        helper.make_node("Shape", ["input_ids"], [names["Shape"]], f"{_PREFIX}Shape", start=1, end=2),
        helper.make_node("Cast", [names["Shape"]], [names["Cast"]], f"{_PREFIX}Cast", to=TensorProto.INT32),
        helper.make_node("Add", [seqlens, f"{_PREFIX}one"], [names["Add"]], f"{_PREFIX}Add"),
        helper.make_node("Min", [QUERY_SEQLENS, names["Add"], names["Cast"]], [names["Min"]], f"{_PREFIX}Min"),
    ]


def _add_inputs(graph: GraphProto) -> None:
    """Add the inputs with their defaults: an input that is an initializer too may be left out."""
    most = np.asarray([np.iinfo(np.int32).max], np.int32)
    last = np.asarray([[[0, -1]]], np.int64)
    graph.initializer.extend(
        [
            numpy_helper.from_array(most, QUERY_SEQLENS),
            numpy_helper.from_array(last, LOGITS_INDICES),
            numpy_helper.from_array(np.asarray([1], np.int32), f"{_PREFIX}one"),
        ]
    )
    graph.input.extend(
        [
            helper.make_tensor_value_info(QUERY_SEQLENS, TensorProto.INT32, ["query_rows"]),
            helper.make_tensor_value_info(LOGITS_INDICES, TensorProto.INT64, ["logits_count", 1, 2]),
        ]
    )


def _forget_shapes(graph: GraphProto) -> None:
    """Correct the shape of the logits, and leave those on the way to them to ONNX Runtime."""
    after = PRUNED.removesuffix("prune/")
    kept = [value for value in graph.value_info if not value.name.startswith(after)]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    for output in graph.output:
        if output.name == "logits":
            output.type.tensor_type.shape.dim[0].Clear()
            output.type.tensor_type.shape.dim[0].dim_param = "logits_count"
