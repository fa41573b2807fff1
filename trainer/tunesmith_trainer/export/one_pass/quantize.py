"""Quantizes the linear layers of an export to int8 or int4; embeddings and the head stay in fp32."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith_api.spec import Precision
from tunesmith_trainer.export.one_pass.graph import MODEL, save

_LARGE = 1_900_000_000  # bytes; a file in protobuf's format takes 2 GiB at most
_BLOCK = 32


def quantize(folder: Path, precision: Precision, heads: Sequence[str]) -> None:
    """Replace the graph by one with the weights of its linear layers in 8 or 4 bits.

    In int8, inputs are quantized while the graph runs, with one scale for all rows of a batch: outputs can depend a
    little on what else is in it. Weights have a scale for each output of a layer.

    Args:
        folder: The folder of `write_graph`.
        precision: int8 or int4.
        heads: Names of the modules of the head.
    """
    path, quantized = folder / MODEL, folder / f".{MODEL}"
    size = sum(file.stat().st_size for file in folder.glob(f"{MODEL}*"))
    with _quiet():
        if precision is Precision.INT8:
            _to_int8(path, quantized, _of(path, heads), large=size > _LARGE)
        else:
            _to_int4(path, quantized, _of(path, heads), large=size > _LARGE)
    quantized.replace(path)


def _to_int8(path: Path, quantized: Path, apart: list[str], *, large: bool) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        path,
        quantized,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QUInt8,  # with signed ones, sums overflow on CPUs without VNNI
        nodes_to_exclude=apart,
        use_external_data_format=large,
        extra_options={"MatMulConstBOnly": True},
    )


def _to_int4(path: Path, quantized: Path, apart: list[str], *, large: bool) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    found = MatMulNBitsQuantizer(
        str(path), block_size=_BLOCK, is_symmetric=True, accuracy_level=4, nodes_to_exclude=apart
    )
    found.process()
    save(found.model.model, quantized, large=large)


def _of(path: Path, heads: Sequence[str]) -> list[str]:
    """Return the names of the nodes of the head, which begin with the names of its modules."""
    import onnx

    paths = [head.replace(".", "/") for head in heads]
    starts = tuple(f"/{start}{path}/" for path in paths for start in ("", "model/"))
    names = [node.name for node in onnx.load(path, load_external_data=False).graph.node if node.name.startswith(starts)]
    return [*names, *(f"{name}_MatMul" for name in names)]  # what is made of a Gemm


@contextmanager
def _quiet() -> Iterator[Any]:
    """Leave out that no graph was preprocessed, which is said of each."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
