"""Compares the weights of an export with the tuned ones, slice by slice: the rounding must be that of the precision."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import NodeProto

from tunesmith_trainer.export.external_data import mapped
from tunesmith_trainer.export.graph import MODEL
from tunesmith_trainer.export.int8_products import LEVELS, PRODUCT
from tunesmith_trainer.export.lazy_weights import SLICE
from tunesmith_trainer.export.tuned_layers import TunedLayers

ROUNDING = 1e-3
"""Of a step: how far apart two right ways to compute the rounding can be."""
_TINY = 1e-30


def weight_errors(folder: Path, tuned: TunedLayers) -> Iterator[tuple[str, float]]:
    """Yield each matrix of an export, by its node's name, with its error in half steps of the rounding.

    A weight in its block's half step has an error of at most 1. In 16 and 32 bits the weight must be the tuned one in
    that type: the error is 0, or infinite. So it is where the steps are larger than the block's weights ask for.

    Raises:
        ValueError: A matrix is of no known weight.
    """
    model = onnx.load(str(folder / MODEL), load_external_data=False)
    weights = {weight.name: weight for weight in model.graph.initializer}
    for node in model.graph.node:
        at = {"MatMul": 1, "MatMulNBits": 1, PRODUCT: 1, "Gather": 0}.get(node.op_type)
        if at is None or node.input[at] not in weights:
            continue
        names = [name for name in node.input[at:] if name in weights]
        arrays = [mapped(weights[name], folder) for name in names]
        values = tuned.matrix(node.name)
        step = max(1, SLICE // values.shape[1])
        worst = 0.0
        for start in range(0, len(values), step):
            wide, rows = values[start : start + step].float(), slice(start, start + step)
            if node.op_type == "MatMul":  # [inputs, outputs]
                error = _unequal(_tensor(arrays[0][:, rows]).T, wide)
            elif node.op_type == "Gather":
                error = _unequal(_tensor(arrays[0][rows]), wide)
            elif node.op_type == PRODUCT:
                error = _int8_error(wide, arrays[0][:, rows].T, arrays[2][rows])
            else:
                error = _quantised_error(wide, [array[rows] for array in arrays], node)
            worst = max(worst, error)
        yield node.name, worst


def _tensor(array: Any) -> torch.Tensor:  # noqa: ANN401
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(np.array(array).view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def _unequal(found: torch.Tensor, tuned: torch.Tensor) -> float:
    return 0.0 if torch.equal(found, tuned.to(found.dtype)) else math.inf


def _quantised_error(tuned: torch.Tensor, arrays: list[Any], node: NodeProto) -> float:
    """Return the largest error of rows, in half steps.

    Args:
        tuned: float32 [rows, columns].
        arrays: Packed weights, and scales [rows, blocks].
        node: The node.
    """
    block = next(attribute.i for attribute in node.attribute if attribute.name == "block_size")
    rows, columns = tuned.shape
    if len(arrays) != 2:
        raise ValueError(f"{node.name} has zero points, which are not expected")
    scales = _tensor(arrays[1]).float().reshape(rows, -1, 1)
    shape = (rows, scales.shape[1], block)
    levels = (_unpacked(arrays[0], rows) - 8).reshape(shape)
    wide = torch.nn.functional.pad(tuned, (0, shape[1] * block - columns)).reshape(shape)
    largest = wide.abs().amax(-1, keepdim=True)
    # A step is an eighth of the block's largest weight. Larger steps would make every error small.
    if bool((scales.abs() * 7 > largest).any()) or bool(((scales == 0) & (largest > _TINY)).any()):
        return math.inf
    ratio = torch.where(scales == 0, torch.zeros_like(wide), wide / scales)
    error = (ratio - levels).abs()
    # There are levels from -8 to 7. What would be 8 is 7, the last one.
    is_last = (levels == 7) & (ratio > 7) & (ratio <= 8 + ROUNDING)
    error = torch.where(is_last, torch.zeros_like(error), error)
    # What the last block has beyond the columns is multiplied by zeros, whatever it is.
    worst = float(error.reshape(rows, -1)[:, :columns].amax()) * 2
    return math.inf if math.isnan(worst) else worst


def _int8_error(tuned: torch.Tensor, levels: Any, steps: Any) -> float:  # noqa: ANN401
    """Return the largest error, in half steps.

    Args:
        tuned: float32 [outputs, inputs].
        levels: int8 [outputs, inputs].
        steps: Size of an output's step, float32 [outputs].
    """
    scale, largest = _tensor(steps)[:, None], tuned.abs().amax(-1, keepdim=True)
    # A step is a 127th of the output's largest weight. Larger steps would make every error small.
    if bool(((scale * LEVELS > largest * (1 + ROUNDING)) & (largest > _TINY)).any()):
        return math.inf
    worst = float((tuned / scale - _tensor(levels).float()).abs().amax()) * 2
    return math.inf if math.isnan(worst) else worst


def _unpacked(packed: Any, rows: int) -> torch.Tensor:  # noqa: ANN401
    """Return the levels 0 to 15, float32 [rows, columns], of packed ones; the lower half of a byte comes first."""
    values = _tensor(packed).reshape(rows, -1)
    return torch.stack((values & 0xF, values >> 4), -1).reshape(rows, -1).float()
