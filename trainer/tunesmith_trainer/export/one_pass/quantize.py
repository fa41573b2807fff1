"""Quantizes the linear layers of an export to int8 or int4; embeddings and the head stay in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunesmith_api.spec import Precision
from tunesmith_trainer.export.int8 import is_large, quiet, to_int8
from tunesmith_trainer.export.one_pass.graph import MODEL, save

_BLOCK = 32


def quantize(folder: Path, precision: Precision, heads: Sequence[str]) -> None:
    """Replace the graph by one with the weights of its linear layers in 8 bits, see `to_int8`, or in 4.

    Args:
        folder: The folder of `write_graph`.
        precision: int8 or int4.
        heads: Names of the modules of the head.
    """
    path, quantized = folder / MODEL, folder / f".{MODEL}"
    write = to_int8 if precision is Precision.INT8 else _to_int4
    write(path, quantized, _of(path, heads))
    quantized.replace(path)


def _to_int4(path: Path, quantized: Path, apart: Sequence[str]) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    found = MatMulNBitsQuantizer(
        str(path), block_size=_BLOCK, is_symmetric=True, accuracy_level=4, nodes_to_exclude=list(apart)
    )
    with quiet():
        found.process()
    save(found.model.model, quantized, large=is_large(path))


def _of(path: Path, heads: Sequence[str]) -> list[str]:
    """Return the names of the nodes of the head, which begin with the names of its modules."""
    import onnx

    paths = [head.replace(".", "/") for head in heads]
    starts = tuple(f"/{start}{path}/" for path in paths for start in ("", "model/"))
    names = [node.name for node in onnx.load(path, load_external_data=False).graph.node if node.name.startswith(starts)]
    return [*names, *(f"{name}_MatMul" for name in names)]  # what is made of a Gemm
