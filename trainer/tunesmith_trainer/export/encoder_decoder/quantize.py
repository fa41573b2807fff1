"""Quantizes the linear layers of an export to int8."""

from __future__ import annotations

from pathlib import Path

from tunesmith_trainer.export.int8 import to_int8

GRAPHS = ("encoder.onnx", "decoder.onnx")


def quantize(folder: Path) -> None:
    """Replace both graphs by such whose linear layers have weights in int8; see `to_int8`.

    Args:
        folder: The folder of `write_graphs`.
    """
    for name in GRAPHS:
        path, quantized = folder / name, folder / f".{name}"
        to_int8(path, quantized)
        quantized.replace(path)
