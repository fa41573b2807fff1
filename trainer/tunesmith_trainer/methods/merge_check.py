"""Compares merged and adapted models by what they compute for a few rows, in fp32."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.methods.adapter import AdapterWeights

log = logging.getLogger(__name__)

# In fp32, merged and adapted logits have never differed by more than 2e-5. A wrong merge differs by far more.
TOLERANCE = 1e-4
# Each weight that is rounded adds an error of about one unit of its number format. Independent errors add up as the
# square root of their number: on small random models of all families to 1.1 times that, of the largest logit.
_UNITS = 4
_FEW = "what it costs stands in the metrics, which are measured on the stored weights"

Outputs = Callable[[Any], Sequence[npt.NDArray[np.float32]]]
"""Given a model, returns its logits, or other outputs, for a few rows."""


class MergeCheck:
    """The outputs that a merged model must have.

    Attributes:
        adapted_difference: Largest difference between the outputs of the base model with the adapter beside it and with
            each weight merged in fp32.
    """

    def __init__(self, base: Any, adapter: AdapterWeights, folder: Path, outputs: Outputs) -> None:  # noqa: ANN401
        """Compare the model that was trained with the merged one before its weights are rounded.

        Args:
            base: The base model, from `load_model`; it is changed.
            adapter: The adapter.
            folder: Its folder.
            outputs: Returns what a model computes for a few rows.

        Raises:
            StageError: EXPORT_FAILED: they are not the same function.
        """
        self._outputs = outputs
        self._merged = len(adapter.layers)
        for name in adapter.heads:  # peft keeps a head in the number format of the base model's
            tensor = _tensor(base, name)
            tensor.data = tensor.data.float()
        with _merged_in_use(base, adapter):
            self._expected = outputs(base)
        from peft import PeftModel

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about peft's use of transformers, nothing for users
            adapted = PeftModel.from_pretrained(base, folder, is_trainable=False).eval()
        self.adapted_difference = self._require(adapted, TOLERANCE, "merging the adapter")

    def trained(self, model: Any) -> float:  # noqa: ANN401
        """Compare the model that was trained, whose base is stored otherwise; return the largest difference of a logit.

        Raises:
            StageError: EXPORT_FAILED: they are not the same function.
        """
        return self._require(model, TOLERANCE, "dequantizing the base weights")

    def stored(self, model: Any, weights: str) -> float:  # noqa: ANN401
        """Compare the model that was written; return the largest difference of a logit.

        How much rounding to 16 bits changes a logit depends on the model: deep ones can amplify it. Each stored weight
        is compared with the formula elsewhere, and the metrics are measured on the stored model, so an unusual
        difference is only a warning. In fp32 there is no rounding to excuse one.

        Args:
            model: The merged model, from `load_model`.
            weights: The number format in which its weights are stored, as torch names it.

        Raises:
            StageError: EXPORT_FAILED: weights stored in fp32 are not the same function, or a logit is not a number.
        """
        what, unit = "storing the merged weights", torch.finfo(getattr(torch, weights)).eps / 2
        if unit * self._merged**0.5 * _UNITS <= TOLERANCE:
            return self._require(model, TOLERANCE, what)
        largest = self._require(model, math.inf, what)
        usual = _UNITS * unit * self._merged**0.5 * max([1.0, *(float(np.abs(row).max()) for row in self._expected)])
        if largest > usual:
            log.warning(
                "%s in %s changes a logit by %.3g, usually at most %.3g; %s", what, weights, largest, usual, _FEW
            )
        return largest

    def _require(self, model: Any, tolerance: float, what: str) -> float:  # noqa: ANN401
        """Return the largest difference of a logit; fail if it is beyond the tolerance, relative to large logits."""
        largest = 0.0
        for expected, found in zip(self._expected, self._outputs(model), strict=True):
            difference = float(np.abs(found - expected).max())
            bound = tolerance * max(1.0, float(np.abs(expected).max()))
            if not difference <= bound:
                raise StageError(
                    Reason.EXPORT_FAILED,
                    f"{what} changes the model: a logit is off by {difference:.3g}, more than {bound:.3g}",
                    "Train with method: full, or with a lower learning rate, at which the weights stay moderate",
                )
            largest = max(largest, difference)
        log.info("%s: logits on a few rows differ by %.2g at most", what, largest)
        return largest


@contextmanager
def _merged_in_use(base: Any, adapter: AdapterWeights) -> Iterator[None]:  # noqa: ANN401
    """Let a base model compute with merged weights, each made in fp32 when it is used, and with the trained heads."""
    layers = [(base.get_submodule(name), name) for name in adapter.layers]
    for layer, name in layers:
        layer.forward = partial(_forward, layer, adapter, name)
    before = [(tensor, tensor.data) for tensor in (_tensor(base, name) for name in adapter.heads)]
    for (tensor, data), name in zip(before, adapter.heads, strict=True):
        tensor.data = adapter.head(name).to(data.device)
    try:
        yield
    finally:
        for layer, _ in layers:
            del layer.forward
        for tensor, data in before:
            tensor.data = data


def _tensor(model: Any, name: str) -> torch.Tensor:  # noqa: ANN401
    """Return a parameter or buffer of a model by its full name."""
    owner, _, last = name.rpartition(".")
    found: torch.Tensor = getattr(model.get_submodule(owner), last)
    return found


def _forward(layer: Any, adapter: AdapterWeights, name: str, value: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
    bias = None if layer.bias is None else adapter.merged_bias(name, layer.bias.float()).to(value.dtype)
    return functional.linear(value, adapter.merged(name, layer.weight.float()), bias)
