"""Quantizes the linear layers of graphs that torch.onnx has exported to int8."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LARGE = 1_900_000_000
"""Bytes from which weights are in files of their own: a file in protobuf's format takes 2 GiB at most."""


def to_int8(path: Path, quantized: Path, apart: Sequence[str] = ()) -> None:
    """Write a graph whose linear layers have weights in int8; embeddings stay in fp32.

    Inputs are quantized while the graph runs, with one scale for all rows of a batch: outputs can depend a little on
    what else is in it. Weights have a scale for each output of a layer.

    Args:
        path: The graph.
        quantized: The file to write.
        apart: Names of nodes that stay as they are.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(
            path,
            quantized,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QUInt8,  # with signed ones, sums overflow on CPUs without VNNI
            nodes_to_exclude=list(apart),
            use_external_data_format=is_large(path),
            extra_options={"MatMulConstBOnly": True},
        )


def is_large(path: Path) -> bool:
    """Return whether a graph and its weights are too large for one file."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*")) > LARGE


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out that no graph was preprocessed, which is said of each."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
