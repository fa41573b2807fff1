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
    """Quantises matrices, and the products with them."""

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

    def quantises(self, node: NodeProto) -> bool:
        """Return whether a node with a matrix would be quantised.

        Raises:
            ValueError: The builder would quantise it in a way that this class does not know.
        """
        if node.op_type == "Gather" and "Gather" in self._operators:
            raise ValueError(f"the builder would quantise {node.name}")
        return node.op_type == "MatMul" and "MatMul" in self._operators

    def product(self, node: NodeProto, matrix: LazyMatrix) -> tuple[NodeProto, list[TensorProto]]:
        """Return what replaces a product, and its weights, scales and, if there are any, zero points, without data."""
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
        made: NodeProto = onnx.helper.make_node(
            "MatMulNBits",
            [node.input[0], *(tensor.name for tensor in tensors)],
            list(node.output),
            f"{node.name}_Q4",
            domain="com.microsoft",
            **attributes,
        )
        return made, tensors

    def arrays(self, matrix: LazyMatrix) -> list[Array]:
        """Return the data of a matrix's weights, scales and, if there are any, zero points.

        Args:
            matrix: [K, N]. Each column is quantised by itself, so slices give the same as all of them at once.
        """
        parts = list(self._slices(matrix.load()))
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    def _slices(self, values: Any) -> Iterator[tuple[Array, ...]]:  # noqa: ANN401 - a torch tensor
        step = max(1, SLICE // values.shape[0])
        for start in range(0, values.shape[1], step):
            part = values[:, start : start + step].float().contiguous().numpy()
            packed, scales, zero_points = self._quantizer.qbits_block_quant(part)
            yield (packed, scales) if self._symmetric else (packed, scales, zero_points)
