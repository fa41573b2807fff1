"""An exported decoder whose keys and values are kept in int8: a quarter of the memory, and of the bytes of each step.

ONNX Runtime's GroupQueryAttention rounds keys and values to multiples of a scale as it writes them into the cache, and
computes from there. There is a scale for each number of each head, and it is fixed: what is beyond 127 times the scale
is cut off. So the scales come from rows of the job's own data, with some room above the largest value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, TensorProto, helper, numpy_helper

from tunesmith_trainer.export.graph import MODEL, attention_nodes
from tunesmith_trainer.export.int8_prompts import SCALE_INPUTS, join_prompts, split_prompts
from tunesmith_trainer.export.onnx_runner import OnnxModel
from tunesmith_trainer.export.ragged import RAGGED, make_ragged

ROOM = 1.1
"""How far above the largest value of the rows the scales reach."""
_LEVELS = 127
_ATTRIBUTES = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
_CACHE = ("past_key_values.", "present.")

Ranges = dict[str, npt.NDArray[np.float32]]
"""The largest absolute value of each number of each head, [heads, head size], by the name of the input."""


def measure_ranges(folder: Path, rows: Iterable[Sequence[int]]) -> Ranges:
    """Return what the keys and values of an export come to.

    Args:
        folder: An export with keys and values in fp32.
        rows: Token ids of rows.
    """
    model = OnnxModel(folder)
    ranges: Ranges = {}
    for ids in rows:
        for name, values in model.cache(ids).items():
            largest = np.abs(values).max(axis=(0, 2))
            ranges[name] = np.maximum(ranges[name], largest) if name in ranges else largest
    return ranges


def quantise_cache(folder: Path, ranges: Ranges, *, prompts: bool = True) -> bool:
    """Let an export keep its keys and values in int8, in place.

    Args:
        folder: An export with keys and values in fp32. Its file of weights is neither read nor changed.
        ranges: What its keys and values come to.
        prompts: Whether it is to be fast for prompts too. It then takes up to a tenth longer for steps of one row.

    Returns:
        Whether the graph could be changed: all of its layers have attention over grouped queries.
    """
    model = onnx.load(str(folder / MODEL), load_external_data=False)
    attention = attention_nodes(model.graph)
    if {name for node in attention for name in node.input[3:5]} != set(ranges):
        return False
    for node in attention:
        scales = [f"{name}/scale" for name in node.input[3:5]]
        for name, scale in zip(node.input[3:5], scales, strict=True):
            steps = np.maximum(ranges[name] * np.float32(ROOM / _LEVELS), np.finfo(np.float32).tiny)
            model.graph.initializer.append(numpy_helper.from_array(steps[:, np.newaxis], scale))
        kept = [*node.input, *[""] * (SCALE_INPUTS[0] - len(node.input))]
        del node.input[:]
        node.input.extend([*kept[: SCALE_INPUTS[0]], *scales, *kept[SCALE_INPUTS[1] + 1 :]])
        node.attribute.extend(helper.make_attribute(name, value) for name, value in _ATTRIBUTES.items())
    _set_types(model.graph, TensorProto.FLOAT, TensorProto.INT8)
    ragged = onnx.ModelProto()
    ragged.CopyFrom(model)
    graphs = {MODEL: model} | ({RAGGED: ragged} if make_ragged(ragged.graph) else {})
    for name, graph in graphs.items():
        if prompts:
            split_prompts(graph.graph)
        onnx.save(graph, str(folder / name))
    return True


def with_plain_cache(graph: GraphProto) -> None:
    """Let a graph keep its keys and values in fp32 again, in place, so that nothing is rounded."""
    join_prompts(graph)
    for node in attention_nodes(graph):
        kept = [attribute for attribute in node.attribute if attribute.name not in _ATTRIBUTES]
        if len(kept) < len(node.attribute):
            del node.attribute[:]
            node.attribute.extend(kept)
            node.input[SCALE_INPUTS[0]] = node.input[SCALE_INPUTS[1]] = ""
    _set_types(graph, TensorProto.INT8, TensorProto.FLOAT)


def _set_types(graph: GraphProto, before: int, after: int) -> None:
    """Change the type of the keys and values that a graph takes and returns."""
    values: list[Any] = [*graph.input, *graph.output, *graph.value_info]
    for value in values:
        tensor = value.type.tensor_type
        if value.name.startswith(_CACHE) and tensor.elem_type == before:
            tensor.elem_type = after
