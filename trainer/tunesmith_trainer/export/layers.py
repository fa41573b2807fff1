"""Parity layer by layer, whose bounds are not configurable: it holds for any weights, random ones included.

Whether an int4 model agrees with the tuned one depends on the weights. Whether each weight is rounded rightly, and
whether the graph computes what torch computes, does not.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import cache
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
TOLERANCE = {
    Precision.FP32: 1e-4,
    Precision.INT4: 1e-4,
    Precision.INT8: 1e-4,
    Precision.FP16: 4e-3,
    Precision.BF16: 3e-2,
}
"""Largest difference of a layer's result, relative to what it adds. In 16 bits, norms and rotations are rounded."""
PROMPT_TOLERANCE = 2e-2
"""Largest difference of a prompt in int8 by both ways, relative to what the layer adds: some numbers lie between two
levels, and are rounded to the other one."""

LayerNumbers = dict[str, float | int | str]


def first_tokens(store: TokenStore, most: int) -> list[int]:
    """Return the first tokens of the rows, joined."""
    ids: list[int] = []
    for index in range(len(store)):
        if len(ids) >= most:
            break
        ids += store[index][0].tolist()
    return ids[:most]


def check_layers(exported: Path, tuned: Path, precision: Precision, store: TokenStore) -> LayerNumbers:
    """Compare an export's weights with the tuned ones, and its graph, given the tuned weights, with torch.

    Args:
        exported: The export.
        tuned: The model that it was made from, in the transformers layout.
        precision: The export's precision.
        store: Rows whose first tokens are computed, by all layers. If the model has a sliding window or a rope that is
            scaled from a shorter length, the first layer of each kind also computes a row beyond it.

    Returns:
        `largestDifference` of a layer's result, relative to what the layer adds, and `layer`, where that is;
        `largestPromptDifference` and `promptLayer` of the two ways to compute prompts, if keys and values are in int8;
        `largestWeightError` in half steps of the rounding, and `weight`; `layers`, `tokens` and `longRowTokens`.

    Raises:
        StageError: PARITY_FAILED, naming the layer.
    """
    model = TunedLayers(tuned)
    ids, long = first_tokens(store, TOKENS), model.long_row(store)
    numbers: LayerNumbers = {"layers": model.layers, "tokens": len(ids), "longRowTokens": len(long.ids) if long else 0}
    try:
        _add(numbers, "WeightError", "weight", list(weight_errors(exported, model)))
        _require_weights(numbers, precision)
        graphs = LayerGraphs(exported, model.layers)
        found, prompts = _differences(graphs, model, ids)
        if long:
            where = f"on a row beyond token {long.threshold}"
            beyond = _differences(graphs, model, long.ids, model.one_of_each_kind())
            for values, more in zip((found, prompts), beyond, strict=True):
                values += [(f"{name} {where}", value) for name, value in more]
        _add(numbers, "Difference", "layer", found)
        if prompts:
            _add(numbers, "PromptDifference", "promptLayer", prompts)
    except ValueError as error:
        raise _failure(precision, str(error)) from error
    _require_layers(numbers, precision)
    return numbers


def _differences(
    graphs: LayerGraphs, model: TunedLayers, ids: Sequence[int], layers: Collection[int] | None = None
) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """Return how far each part of the graph is from torch's, and the two ways to compute prompts from each other."""
    found: list[tuple[str, float]] = []
    prompts: list[tuple[str, float]] = []

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
            index, matrix = int(name.rpartition(" ")[2]), cache(product)
            result = graphs.layer(index, given.numpy(), matrix)
            # Sums with a large hidden state are rounded themselves.
            scale = max(np.abs(wanted - given.numpy()).max(), 1e-2 * np.abs(wanted).max())
            if both := graphs.prompt(index, given.numpy(), matrix):
                prompts.append((name, float(np.abs(both[0] - both[1]).max() / scale)))
        difference = float(np.abs(result - wanted).max())
        found.append((name, difference / float(scale) if scale else difference))

    model.run(ids, min(LOGITS, len(ids)), compare, layers)
    return found, prompts


def _add(numbers: LayerNumbers, what: str, where: str, values: list[tuple[str, float]]) -> None:
    """Add the largest value and its place; NaN is the largest of all."""
    name, value = max(values, key=lambda entry: math.inf if math.isnan(entry[1]) else entry[1])
    numbers[f"largest{what}"] = value
    numbers[where] = name


def _require_weights(numbers: LayerNumbers, precision: Precision) -> None:
    error, name = float(numbers["largestWeightError"]), numbers["weight"]
    if not error <= 1 + ROUNDING:
        by = f": it differs by {error:.4g} half steps of the rounding" if math.isfinite(error) else ""
        raise _failure(precision, f"weight {name} is not the trained one in {precision.value}{by}")


def _require_layers(numbers: LayerNumbers, precision: Precision) -> None:
    difference, bound = float(numbers["largestDifference"]), TOLERANCE[precision]
    if not difference <= bound:
        share = f"{difference:.4g} of what it adds, and rounding explains {bound:g} at most"
        raise _failure(precision, f"{numbers['layer']} differs from torch by {share}")
    prompts = float(numbers.get("largestPromptDifference", 0))
    if not prompts <= PROMPT_TOLERANCE:
        share = f"{prompts:.4g} of what it adds, and rounding explains {PROMPT_TOLERANCE:g} at most"
        raise _failure(precision, f"{numbers['promptLayer']} computes prompts otherwise than steps, by {share}")


def _failure(precision: Precision, what: str) -> StageError:
    return StageError(
        Reason.PARITY_FAILED,
        f"the {precision.value} export is not the trained model: {what}",
        "Run the job again, so that it is exported anew; if it fails again, use another base model",
    )
