"""Writes the model that the builder has described, tensor by tensor.

The builder would quantise and save with the whole model in memory. Here a matrix is read, converted or quantised in
slices, written and forgotten. The graph and the bytes of each weight are those of the builder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
import onnx_ir as ir
import torch
from onnx import ModelProto

from tunesmith_trainer.export.external_data import DataFile
from tunesmith_trainer.export.graph import DATA, MODEL, merge_gate_and_up, replace_initializers
from tunesmith_trainer.export.int4 import Int4
from tunesmith_trainer.export.int8_products import Int8Product, replace_products
from tunesmith_trainer.export.lazy_weights import SLICE, LazyMatrix


@dataclass
class _Quantised:
    """A quantised product's data: one matrix, or several whose columns are joined.

    Attributes:
        names: Its tensors: weights, scales and, if there are any, zero points.
        matrices: What they are quantised from.
    """

    names: list[str]
    matrices: list[LazyMatrix]


@dataclass
class StreamedWeights:
    """The weights of a graph that is being built.

    Attributes:
        matrices: The matrices that are not loaded, by the initializer's name, as the graph has them.
        quantised: Those of quantised products, by the node's name.
    """

    matrices: dict[str, LazyMatrix] = field(default_factory=dict)
    quantised: dict[str, _Quantised] = field(default_factory=dict)


def save_streamed(
    builder: Any,  # noqa: ANN401 - the builder's Model
    weights: StreamedWeights,
    folder: Path,
    *,
    int8: bool = False,
) -> None:
    """Write the graph that a builder has made, and its weights.

    Args:
        builder: The builder's model, of one of the precisions of `Precision`.
        weights: Its matrices.
        folder: Where to write.
        int8: Quantise the products to int8; the builder's precision is fp32.

    Raises:
        ValueError: The builder would quantise in another way than this module does.
    """
    builder.model.graph.sort()
    builder.stamp_build_metadata(builder.model)
    for name in weights.matrices:
        value = builder.model.graph.initializers[name]
        tensor = value.const_value
        value.const_value = ir.ExternalTensor(
            DATA, 0, tensor.nbytes, tensor.dtype, shape=tensor.shape, name=name, base_dir=folder
        )
    model = ir.to_proto(builder.model)
    products = replace_products(model, weights.matrices) if int8 else []
    quantiser = Int4(builder) if builder.onnx_dtype in (ir.DataType.INT4, ir.DataType.UINT4) else None
    if quantiser:
        _quantise(model, weights, quantiser)
        for gate, up, merged in merge_gate_and_up(model.graph):
            matrices = [*weights.quantised.pop(gate).matrices, *weights.quantised.pop(up).matrices]
            weights.quantised[merged.name] = _Quantised(list(merged.input[1:]), matrices)
    _write(model, weights, quantiser, products, folder)


def _quantise(model: ModelProto, weights: StreamedWeights, quantiser: Int4) -> None:
    """Replace each product with a matrix by a quantised one."""
    dropped, added = set(), []
    for node in model.graph.node:
        name = next((name for name in node.input if name in weights.matrices), None)
        if name is None or not quantiser.quantises(node):
            continue
        matrix = weights.matrices.pop(name)
        replacement, tensors = quantiser.product(node, matrix)
        weights.quantised[replacement.name] = _Quantised([tensor.name for tensor in tensors], [matrix])
        node.CopyFrom(replacement)
        dropped.add(name)
        added += tensors
    replace_initializers(model.graph, dropped, added)
    if all(opset.domain != "com.microsoft" for opset in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))


def _write(
    model: ModelProto, weights: StreamedWeights, quantiser: Int4 | None, products: list[Int8Product], folder: Path
) -> None:
    """Write the data of all weights, and then the graph that refers to them."""
    tensors = {weight.name: weight for weight in model.graph.initializer}
    with DataFile(folder / DATA) as data:
        for name, matrix in weights.matrices.items():
            data.write(tensors[name], _converted(matrix, tensors[name].data_type))
        if quantiser:
            for entry in weights.quantised.values():
                parts = [quantiser.arrays(matrix) for matrix in entry.matrices]
                for name, arrays in zip(entry.names, zip(*parts, strict=True), strict=True):
                    data.write(tensors[name], arrays)
        for product in products:
            for name, pieces in product.arrays():
                data.write(tensors[name], pieces)
        for tensor in model.graph.initializer:
            data.move(tensor)
    onnx.save(model, str(folder / MODEL))


def _converted(matrix: LazyMatrix, data_type: int) -> Iterator[npt.NDArray[Any]]:
    """Yield the rows of a matrix in the type of the export."""
    dtype = ir.tensor_adapters.to_torch_dtype(ir.DataType(data_type))
    values = matrix.load()
    step = max(1, SLICE // max(1, values[0].numel()))
    for start in range(0, len(values), step):
        part = values[start : start + step].to(dtype).contiguous()
        yield (part.view(torch.uint8) if dtype is torch.bfloat16 else part).numpy()
