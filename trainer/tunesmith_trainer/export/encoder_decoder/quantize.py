"""Quantizes the linear layers of an export to int8."""

from __future__ import annotations

import logging
from pathlib import Path

GRAPHS = ("encoder.onnx", "decoder.onnx")
_LARGE = 1_900_000_000  # bytes; a file in protobuf's format takes 2 GiB at most


def quantize(folder: Path) -> None:
    """Replace both graphs by such whose linear layers have weights in int8; embeddings stay in fp32.

    Inputs are quantized while the graph runs, with one scale for all rows of a batch: answers can depend a little on
    what else is in it. Weights have a scale for each output of a layer.

    Args:
        folder: The folder of `write_graphs`.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it remarks on every graph that it was not preprocessed
    try:
        for name in GRAPHS:
            path, quantized = folder / name, folder / f".{name}"
            size = sum(file.stat().st_size for file in folder.glob(f"{name}*"))
            quantize_dynamic(
                path,
                quantized,
                op_types_to_quantize=["MatMul"],
                per_channel=True,
                weight_type=QuantType.QUInt8,  # with signed ones, sums overflow on CPUs without VNNI
                use_external_data_format=size > _LARGE,
                extra_options={"MatMulConstBOnly": True},
            )
            quantized.replace(path)
    finally:
        logging.getLogger().setLevel(level)
