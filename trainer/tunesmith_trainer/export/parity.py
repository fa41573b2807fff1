"""Parity: the difference between an exported model and the torch model that it was made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tunesmith_trainer.export.onnx_runner import Logits
from tunesmith_trainer.export.reference import Kind, ReferenceRow, TorchReference

Numbers = dict[str, float | int | None]

CONFIDENCE = 2.326
"""Standard errors below the mean that hold with 99% confidence, one-sided."""


class Exported(Protocol):
    """An exported model."""

    def logits_at(self, ids: Sequence[int], positions: Sequence[int]) -> Logits:
        """Return the logits at positions of a row, float32 [positions, vocabulary]."""

    def decode(self, prompt: Sequence[int], answer: Sequence[int]) -> Logits:
        """Return the logits before each token of an answer, [tokens, vocabulary], decoded one by one with its cache."""


@dataclass
class _Sums:
    """Differences, added up over sequences."""

    largest: float = 0.0
    total: float = 0.0
    compared: int = 0
    agreed: int = 0
    targets: int = 0
    torch_losses: list[npt.NDArray[np.float64]] = field(default_factory=list)
    onnx_losses: list[npt.NDArray[np.float64]] = field(default_factory=list)

    def add_logits(self, expected: Logits, found: Logits) -> None:
        """Add the differences of logits."""
        difference = np.abs(expected - found)
        largest = float(difference.max(initial=0.0))
        # max() of Python forgets NaN.
        self.largest = largest if math.isnan(largest) or largest > self.largest else self.largest
        self.total += float(difference.sum(dtype=np.float64))
        self.compared += difference.size

    def add_targets(self, row: ReferenceRow, expected: Logits, found: Logits) -> None:
        """Add what both models predict at the target positions."""
        chosen = np.flatnonzero(row.is_target)
        tokens = np.asarray(row.ids)[np.asarray(row.positions)[chosen] + 1] if len(chosen) else np.zeros(0, np.int64)
        self.agreed += int((expected[chosen].argmax(-1) == found[chosen].argmax(-1)).sum()) if len(chosen) else 0
        self.targets += len(chosen)
        self.torch_losses.append(losses(expected[chosen], tokens))
        self.onnx_losses.append(losses(found[chosen], tokens))


def measure(exported: Exported, reference: TorchReference, tie_tolerance: float) -> Numbers:
    """Compare an exported model with the torch model.

    Args:
        exported: The exported model.
        reference: What the torch model computes.
        tie_tolerance: In greedy generation, a token counts as equal if its logit in torch is at most this much below
            the largest.

    Returns:
        `maxLogitDifference` and `meanLogitDifference`, over rows and over decoding with the cache;
        `greedyAgreement`, the share of torch's greedy tokens that the exported model chooses as well, decoding with its
        cache; `nextTokenAgreement`, the share of target positions where both have the same most likely token; beside
        each share the number of its tokens; `torchPerplexity` and `onnxPerplexity` on the target tokens;
        `perplexityIncrease`, relative, and `perplexityIncreaseAtLeast`, its lower bound with 99% confidence; `rows`.
        With a row beyond the model's window or original rope length also `longRowThreshold`,
        `longRowMaxLogitDifference`, `longRowNextTokenAgreement` with its tokens, and for comparison
        `longRowAgreementWithin`, before the threshold.
    """
    sums, count = _Sums(), 0
    for row, expected in reference.of("row"):
        found = exported.logits_at(row.ids, row.positions)
        sums.add_logits(expected, found)
        sums.add_targets(row, expected, found)
        count += 1
    long_sums, long_numbers = _measure_long(exported, reference)
    same, generated = 0, 0
    kinds: tuple[tuple[Kind, _Sums], ...] = (("answer", sums), ("longAnswer", long_sums))
    for kind, into in kinds:
        for row, expected in reference.of(kind):
            prompt, answer = row.ids[: row.threshold], row.ids[row.threshold :]
            found = exported.decode(prompt, answer)
            into.add_logits(expected, found)
            at = np.arange(len(answer))
            same += int((expected[at, found.argmax(-1)] >= expected.max(-1) - tie_tolerance).sum())
            generated += len(answer)
    if long_numbers:
        long_numbers["longRowMaxLogitDifference"] = long_sums.largest
    torch_losses, onnx_losses = _joined(sums.torch_losses), _joined(sums.onnx_losses)
    numbers: dict[str, float] = {
        "maxLogitDifference": sums.largest,
        "meanLogitDifference": _ratio(sums.total, sums.compared),
        "greedyAgreement": _ratio(same, generated),
        "greedyAgreementTokens": generated,
        "nextTokenAgreement": _ratio(sums.agreed, sums.targets),
        "nextTokenAgreementTokens": sums.targets,
        "torchPerplexity": _exp(_mean(torch_losses)),
        "onnxPerplexity": _exp(_mean(onnx_losses)),
        "perplexityIncrease": _exp(_mean(onnx_losses - torch_losses)) - 1,
        "perplexityIncreaseAtLeast": _exp(_lower_bound(onnx_losses - torch_losses)) - 1,
        "rows": count,
        **long_numbers,
    }
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def _measure_long(exported: Exported, reference: TorchReference) -> tuple[_Sums, dict[str, float]]:
    """Compare the row beyond the model's window or original rope length; nothing if there is none."""
    sums = _Sums()
    for row, expected in reference.of("long"):
        found = exported.logits_at(row.ids, row.positions)
        sums.add_logits(expected, found)
        positions, is_target = np.asarray(row.positions), np.asarray(row.is_target)
        agrees = expected.argmax(-1) == found.argmax(-1)
        beyond = (positions >= row.threshold) & is_target
        within = (positions < row.threshold) & is_target
        return sums, {
            "longRowThreshold": row.threshold,
            "longRowNextTokenAgreement": _ratio(int(agrees[beyond].sum()), int(beyond.sum())),
            "longRowNextTokenAgreementTokens": int(beyond.sum()),
            "longRowAgreementWithin": _ratio(int(agrees[within].sum()), int(within.sum())),
        }
    return sums, {}


def losses(logits: Logits, targets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the negative log-likelihood of each target, in nats.

    Args:
        logits: [targets, vocabulary].
        targets: Token ids.
    """
    if not len(targets):
        return np.zeros(0)
    wide = logits.astype(np.float64)
    top = wide.max(-1, keepdims=True)
    sums = np.log(np.exp(wide - top).sum(-1)) + top[:, 0]
    found: npt.NDArray[np.float64] = sums - wide[np.arange(len(targets)), targets]
    return found


def _joined(parts: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    return np.concatenate(parts) if parts else np.zeros(0)


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _lower_bound(values: npt.NDArray[np.float64]) -> float:
    """Return what the mean is at least, with 99% confidence."""
    if len(values) < 2:
        return _mean(values)
    return _mean(values) - CONFIDENCE * float(values.std(ddof=1)) / math.sqrt(len(values))


def _ratio(part: float, whole: int) -> float:
    return part / whole if whole else math.nan


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.nan
