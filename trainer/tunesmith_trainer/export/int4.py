"""Quantises to int4 as the model builder does, with the same kernels and settings, one matrix at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto

from tunesmith_trainer.export.lazy_weights import SLICE, LazyMatrix

Array = npt.NDArray[Any]


class Int4:
    """Quantises matrices, and the nodes that use them."""

    def __init__(self, builder: Any) -> None:  # noqa: ANN401 - the builder's Model
        """Take the settings from the builder.

        Raises:
            ValueError: They are of a kind that this class does not know.
        """
        from onnxruntime.quantization import matmul_nbits_quantizer as quantizer

        settings: Mapping[str, Any] = builder.quant_attrs
        known = {"use_qdq": False, "nodes_to_exclude": [], "bits": 4}
        if (
            builder.quantization_algo != "default"
            or builder.int4_customized_weight_config
            or {name: settings[name] for name in known} != known
        ):
            raise ValueError(f"the builder quantises in an unknown way: {builder.quantization_algo}, {dict(settings)}")
        self._operators = set(settings["op_types_to_quantize"])
        self._symmetric = bool(settings["is_symmetric"])
        self._block = int(settings["matmul_block_size"])
        self._accuracy = settings["accuracy_level"]
        config = quantizer.DefaultWeightOnlyQuantConfig(block_size=self._block, is_symmetric=self._symmetric, bits=4)
        self._quantizer: Any = quantizer.DefaultWeightOnlyQuantizer(config)

    def weight_of(self, node: NodeProto) -> str | None:
        """Return the name of the weight by which a node would be quantised."""
        if node.op_type not in self._operators or node.op_type not in ("MatMul", "Gather"):
            return None
        return str(node.input[1 if node.op_type == "MatMul" else 0])

    def node(self, node: NodeProto, matrix: LazyMatrix) -> tuple[NodeProto, list[TensorProto]]:
        """Return what replaces a product or look-up, and its weights, scales and zero points without data."""
        if node.op_type == "MatMul":
            return self._product(node, matrix)
        return self._lookup(node, matrix)

    def _product(self, node: NodeProto, matrix: LazyMatrix) -> tuple[NodeProto, list[TensorProto]]:
        (rows, columns), name = matrix.shape, node.input[1]
        blocks = -(-rows // self._block)
        tensors = [
            TensorProto(name=f"{name}_Q4", data_type=TensorProto.UINT8, dims=(columns, blocks, self._block // 2)),
            TensorProto(name=f"{name}_scales", data_type=TensorProto.FLOAT, dims=(columns, blocks)),
        ]
        if not self._symmetric:
            dims = (columns, -(-blocks // 2))
            tensors.append(TensorProto(name=f"{name}_zero_points", data_type=TensorProto.UINT8, dims=dims))
        attributes = {"K": rows, "N": columns, "bits": 4, "block_size": self._block}
        if self._accuracy:
            attributes["accuracy_level"] = self._accuracy
        inputs = [node.input[0], *(tensor.name for tensor in tensors)]
        return _contrib("MatMulNBits", node, inputs, attributes), tensors

    def _lookup(self, node: NodeProto, matrix: LazyMatrix) -> tuple[NodeProto, list[TensorProto]]:
        (rows, columns), name = matrix.shape, node.input[0]
        scales = (rows, -(-columns // self._block))
        kind = TensorProto.INT4 if self._symmetric else TensorProto.UINT4
        tensors = [
            TensorProto(name=f"{name}_Q4", data_type=kind, dims=(rows, columns)),
            TensorProto(name=f"{name}_scales", data_type=TensorProto.FLOAT, dims=scales),
        ]
        if not self._symmetric:
            tensors.append(TensorProto(name=f"{name}_zero_points", data_type=kind, dims=scales))
        axes = {attribute.name: attribute.i for attribute in node.attribute}
        attributes = {"gather_axis": axes.get("axis", 0), "quantize_axis": 1, "block_size": self._block}
        inputs = [tensors[0].name, node.input[1], *(tensor.name for tensor in tensors[1:])]
        return _contrib("GatherBlockQuantized", node, inputs, attributes), tensors

    def arrays(self, matrix: LazyMatrix, *, lookup: bool) -> list[Array]:
        """Return the data of a matrix's weights, scales and, if there are any, zero points.

        Args:
            matrix: [K, N] of a product, whose columns are quantised in blocks, or [rows, size] of a look-up, whose rows
                are. Each is quantised by itself, so slices give the same as all of them at once.
            lookup: Which of the two.
        """
        parts = list(self._slices(matrix.values(), lookup))
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    def _slices(self, values: Any, lookup: bool) -> Iterator[tuple[Array, ...]]:  # noqa: ANN401 - a torch tensor
        axis = 0 if lookup else 1
        step = max(2, SLICE // max(1, values.shape[1 - axis]) // 2 * 2)  # even, as two weights share a byte
        for start in range(0, values.shape[axis], step):
            length = min(step, values.shape[axis] - start)
            part = values.narrow(axis, start, length).float().contiguous().numpy()
            found = (
                self._quantizer.quantize_ndarray(part, 1, self._block, self._symmetric)
                if lookup
                else self._quantizer.qbits_block_quant(part)
            )
            yield found[:2] if self._symmetric else found


def _contrib(operator: str, node: NodeProto, inputs: list[str], attributes: dict[str, int]) -> NodeProto:
    name = f"{node.name}_Q4"
    made: NodeProto = onnx.helper.make_node(
        operator, inputs, list(node.output), name, domain="com.microsoft", **attributes
    )
    return made
