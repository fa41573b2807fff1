"""Parity: the difference between an exported model and the torch model that it was made from, and its bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import ParitySpec, Precision
from tunesmith_trainer.evaluate.batches import length_bucketed_batches
from tunesmith_trainer.export.bounds import RISK, binomial_tail
from tunesmith_trainer.export.one_pass.reference import TorchReference
from tunesmith_trainer.export.one_pass.runner import OnnxModel

Numbers = Mapping[str, float | int | None]
Arrays = Sequence[npt.NDArray[np.float32]]

_BATCH = 8  # rows of a padded batch
_CLOSE = 0.1  # of the standard deviation of numbers: how near two predicted numbers are that count as equal


def measure(exported: OnnxModel, reference: TorchReference, alone: int) -> dict[str, float | int | None]:
    """Compare an exported model with the torch model, which computed each row alone.

    Args:
        exported: The exported model.
        reference: What the torch model computes.
        alone: Rows that the exported model computes alone; it computes all in padded batches.

    Returns:
        `maxLogitDifference` and `meanLogitDifference` of rows alone; `maxBatchedLogitDifference` in batches of rows of
        differing lengths, padded on the right, and those of a decoder also on the left; `predictionAgreement`, the
        share of equal predictions in all of these, with their number in `predictionAgreementCount`; `rows`.
    """
    expected = [reference.outputs(name) for name in reference.names]
    spread = float(np.std(np.concatenate([value.ravel() for value in expected[0]])))
    single, batched = _Sums(reference.kind, spread), _Sums(reference.kind, spread)
    for index, left, found in _computed(exported, reference, alone):
        sums = batched if left is not None else single
        for output, value in zip(expected, found, strict=True):
            sums.add(output[index], value)
    predictions = single.predictions + batched.predictions
    numbers = {
        "maxLogitDifference": single.largest,
        "meanLogitDifference": single.total / single.values if single.values else math.nan,
        "maxBatchedLogitDifference": batched.largest,
        "predictionAgreement": (single.agreed + batched.agreed) / predictions if predictions else math.nan,
        "predictionAgreementCount": predictions,
        "rows": len(reference.rows),
    }
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def _computed(exported: OnnxModel, reference: TorchReference, alone: int) -> Iterator[tuple[int, bool | None, Arrays]]:
    """Yield a row's index, whether it was padded on the left (None: it was alone), and its outputs."""
    lengths = [len(row["input_ids"]) for row in reference.rows]
    for index in _spread(lengths, alone):
        found = exported.run(reference.batch([index]), reference.names)
        yield index, None, [value[0] for value in found]
    for left in (False, True) if reference.either_side else (False,):
        # Longer and shorter rows side by side: the batches are not of like lengths.
        order = np.random.default_rng(0).permutation(len(lengths)).tolist()
        for start in range(0, len(order), _BATCH):
            mixed = order[start : start + _BATCH]
            for part in length_bucketed_batches([max(lengths[i] for i in mixed)] * len(mixed), _BATCH, 4096):
                batch = [mixed[place] for place in part]
                found = exported.run(reference.batch(batch, left=left), reference.names)
                for slot, index in enumerate(batch):
                    yield index, left, [v[slot, : lengths[index]] if reference.per_token else v[slot] for v in found]


def _spread(lengths: Sequence[int], count: int) -> list[int]:
    """Return the indices of rows of all lengths, from the shortest to the longest."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    places = np.linspace(0, len(order) - 1, min(count, len(order))).astype(int)
    return [order[place] for place in sorted(set(places.tolist()))]


class _Sums:
    """Differences, added up over rows.

    Args:
        kind: What the outputs mean.
        spread: Standard deviation of the outputs.
    """

    def __init__(self, kind: str | None, spread: float) -> None:
        self._kind, self._spread = kind, spread
        self.largest = self.total = 0.0
        self.values = self.agreed = self.predictions = 0

    def add(self, expected: npt.NDArray[np.float32], found: npt.NDArray[np.float32]) -> None:
        """Add a row's output: [labels], [tokens, labels], or [tokens] of which one is chosen."""
        difference = np.abs(expected - found)
        largest = float(difference.max(initial=0.0))
        # max() of Python forgets NaN.
        self.largest = largest if math.isnan(largest) or largest > self.largest else self.largest
        self.total += float(difference.sum(dtype=np.float64))
        self.values += difference.size
        agrees = self._agrees(expected, found)
        self.agreed += int(agrees.sum())
        self.predictions += agrees.size

    def _agrees(self, expected: npt.NDArray[np.float32], found: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        if self._kind == "regression":
            return np.asarray(np.abs(expected - found) <= max(_CLOSE * self._spread, 1e-4))
        if self._kind == "multi_label_classification":
            return np.asarray((expected > 0) == (found > 0))
        return np.atleast_1d(expected.argmax(-1) == found.argmax(-1)) & np.isfinite(found).all()


def require_parity(precision: Precision, numbers: Mapping[str, Any], bounds: ParitySpec) -> None:
    """Fail if an exported model differs too much from the torch model.

    In fp32 the outputs have to be equal within the bound. In other precisions the predictions have to: the export fails
    if those that were compared prove that fewer than the bound says are equal.

    Args:
        precision: The export's precision.
        numbers: The result of `measure`.
        bounds: The job's bounds.

    Raises:
        StageError: PARITY_FAILED, with every number that is out of bounds.
    """
    wrong, most = [], bounds.max_logit_difference
    if precision is Precision.FP32:
        for name in ("maxLogitDifference", "maxBatchedLogitDifference"):
            value = numbers[name]
            if value is None or not value <= most:
                wrong.append(f"{name} is {_shown(value)}, not at most {most:g}")
        advice = "The exporter does not support this model correctly: use another base model"
    else:
        share, count = numbers["predictionAgreement"], numbers["predictionAgreementCount"]
        least = bounds.min_prediction_agreement
        if share is None or (share < least and binomial_tail(round(share * count), count, least) < RISK):
            wrong.append(f"predictionAgreement is {_shown(share)} of {count}, not at least {least:g}")
        advice = "Export fp32 instead, or widen the bound in export.parity"
    if wrong:
        raise StageError(
            Reason.PARITY_FAILED, f"the {precision.value} export is not the trained model: {'; '.join(wrong)}", advice
        )


def _shown(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.4g}"
