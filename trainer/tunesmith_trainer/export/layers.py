"""Parity layer by layer, whose bounds are not configurable: it holds for any weights, random ones included.

Whether an int4 model agrees with the tuned one depends on the weights. Whether each weight is rounded rightly, and
whether the graph computes what torch computes, does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import Precision
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.export.export_weights import ROUNDING, weight_errors
from tunesmith_trainer.export.layer_graphs import LayerGraphs
from tunesmith_trainer.export.tuned_layers import TunedLayers

TOKENS = 64
"""Tokens that are computed."""
LOGITS = 8
"""Tokens whose logits are computed."""
TOLERANCE = {Precision.FP32: 1e-4, Precision.INT4: 1e-4, Precision.FP16: 4e-3, Precision.BF16: 3e-2}
"""Largest difference of a layer's result, relative to what it adds. In 16 bits, norms and rotations are rounded."""

LayerNumbers = dict[str, float | int | str]


def first_tokens(store: TokenStore, most: int) -> list[int]:
    """Return the first tokens of the rows, joined."""
    ids: list[int] = []
    for index in range(len(store)):
        if len(ids) >= most:
            break
        ids += store[index][0].tolist()
    return ids[:most]


def check_layers(exported: Path, tuned: Path, precision: Precision, ids: Sequence[int]) -> LayerNumbers:
    """Compare an export's weights with the tuned ones, and its graph, given the tuned weights, with torch.

    Args:
        exported: The export.
        tuned: The model that it was made from, in the transformers layout.
        precision: The export's precision.
        ids: Token ids to compute, at least one.

    Returns:
        `largestDifference` of a layer's result, relative to what the layer adds, and `layer`, where that is;
        `largestWeightError` in half steps of the rounding, and `weight`; `layers` and `tokens`.

    Raises:
        StageError: PARITY_FAILED, naming the layer.
    """
    model = TunedLayers(tuned)
    numbers: LayerNumbers = {"layers": model.layers, "tokens": len(ids)}
    try:
        _add(numbers, "WeightError", "weight", list(weight_errors(exported, model)))
        _require(numbers, "WeightError", "weight", 1 + ROUNDING, "half steps of its rounding", precision)
        _add(numbers, "Difference", "layer", _differences(exported, model, ids))
    except ValueError as error:
        raise _failure(precision, str(error)) from error
    _require(numbers, "Difference", "layer", TOLERANCE[precision], "of what the layer adds", precision)
    return numbers


def _differences(exported: Path, model: TunedLayers, ids: Sequence[int]) -> list[tuple[str, float]]:
    graphs = LayerGraphs(exported, model.layers)
    found: list[tuple[str, float]] = []

    def product(node: str) -> npt.NDArray[Any]:
        return model.matrix(node).float().T.contiguous().numpy()

    def rows(node: str) -> npt.NDArray[Any]:
        return model.matrix(node)[torch.tensor(ids)].float().numpy()

    def compare(name: str, given: torch.Tensor, expected: torch.Tensor) -> None:
        wanted = expected.numpy()
        if name == "embedding":
            result = graphs.embedding(np.arange(len(ids)), rows)
            scale = np.abs(wanted).max()
        elif name == "output layer":
            result = graphs.output(given.numpy(), product)
            scale = np.abs(wanted).max()
        else:
            result = graphs.layer(int(name.rpartition(" ")[2]), given.numpy(), product)
            # Sums with a large hidden state are rounded themselves.
            scale = max(np.abs(wanted - given.numpy()).max(), 1e-2 * np.abs(wanted).max())
        difference = float(np.abs(result - wanted).max())
        found.append((name, difference / float(scale) if scale else difference))

    model.run(ids, min(LOGITS, len(ids)), compare)
    return found


def _add(numbers: LayerNumbers, what: str, where: str, values: list[tuple[str, float]]) -> None:
    """Add the largest value and its place; NaN is the largest of all."""
    name, value = max(values, key=lambda entry: math.inf if math.isnan(entry[1]) else entry[1])
    numbers[f"largest{what}"] = value
    numbers[where] = name


def _require(numbers: LayerNumbers, what: str, where: str, bound: float, unit: str, precision: Precision) -> None:
    value = float(numbers[f"largest{what}"])
    if not value <= bound:
        place = f"{where} {numbers[where]}" if where == "weight" else numbers[where]
        raise _failure(
            precision, f"{place} differs by {value:.4g} {unit}, and at most {bound:g} can come from rounding"
        )


def _failure(precision: Precision, what: str) -> StageError:
    return StageError(
        Reason.PARITY_FAILED,
        f"the {precision.value} export is not the trained model: {what}",
        "Run the job again, so that it is exported anew; if it fails again, use another base model",
    )
