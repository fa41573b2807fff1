"""Parity: the difference between an exported model and the torch model that it was made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import ParitySpec, Precision
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate.generate import greedy
from tunesmith_trainer.export.onnx_runner import Logits, OnnxModel
from tunesmith_trainer.models.loading import context_length

NEW_TOKENS = 32
_MAX_ROW = 512  # tokens of a row that are compared, which bounds the memory of its logits

Numbers = dict[str, float | int | None]


class TorchReference:
    """The torch model's side of the comparison.

    Attributes:
        rows: `(token ids, loss mask)` of the validation rows that are compared.
        answers: `(prompt ids, tokens that torch generates greedily)` of each prompt.
    """

    def __init__(self, model: Any, store: TokenStore, prompts: Sequence[Sequence[int]], rows: int) -> None:  # noqa: ANN401
        self._model = model
        self.rows = [
            (tokens[:_MAX_ROW].tolist(), mask[:_MAX_ROW].astype(bool))
            for tokens, mask in (store[index] for index in range(min(rows, len(store))))
        ]
        if not any(mask[1:].any() for _, mask in self.rows):
            self.rows = [(tokens, np.ones_like(mask)) for tokens, mask in self.rows]
        room = context_length(model)
        starts: list[list[int]] = [list(prompt[:_MAX_ROW]) for prompt in prompts[:rows]]
        starts = starts or [tokens[: max(1, len(tokens) // 2)] for tokens, _ in self.rows]
        starts = [start for start in starts if len(start) < room]
        limits = [min(NEW_TOKENS, room - len(start)) for start in starts]
        # Generation continues past EOS, so that short answers give enough tokens to compare.
        self.answers = list(zip(starts, greedy(model, starts, limits, frozenset()), strict=True))

    @torch.inference_mode()
    def logits(self, ids: Sequence[int]) -> Logits:
        """Return float32 [tokens, vocabulary]."""
        found = self._model(input_ids=torch.tensor([list(ids)], device=self._model.device), use_cache=False).logits[0]
        return found.float().cpu().numpy()


def measure(exported: OnnxModel, reference: TorchReference, tie_tolerance: float) -> Numbers:
    """Compare an exported model with the torch model.

    Args:
        exported: The exported model.
        reference: The torch model, with the rows and prompts to compare on.
        tie_tolerance: In greedy generation, a token counts as equal if its logit in torch is at most this much below
            the largest.

    Returns:
        `maxLogitDifference` and `meanLogitDifference`, over whole rows and over decoding with the cache;
        `greedyAgreement`, the share of torch's greedy tokens that the exported model chooses as well, decoding with its
        cache; `nextTokenAgreement`, the share of target positions where both have the same most likely token;
        `torchPerplexity` and `onnxPerplexity` on the target tokens; `perplexityIncrease`, relative; `rows`, `tokens`.
    """
    largest, differences, compared = 0.0, 0.0, 0
    agreed, positions, torch_loss, onnx_loss = 0, 0, 0.0, 0.0
    for ids, mask in reference.rows:
        expected, found = reference.logits(ids), exported.logits(ids)
        difference = np.abs(expected - found)
        largest = max(largest, float(difference.max())) if not np.isnan(difference).any() else math.nan
        differences += float(difference.sum(dtype=np.float64))
        compared += difference.size
        targets = np.flatnonzero(mask[1:]) + 1
        chosen, tokens = targets - 1, np.asarray(ids)[targets]
        agreed += int((expected[chosen].argmax(-1) == found[chosen].argmax(-1)).sum())
        positions += len(targets)
        torch_loss += _loss(expected[chosen], tokens)
        onnx_loss += _loss(found[chosen], tokens)
    same, generated = 0, 0
    for prompt, answer in reference.answers:
        expected = reference.logits([*prompt, *answer])[len(prompt) - 1 : -1]
        found = exported.decode(prompt, answer)
        decoded = float(np.abs(expected - found).max())
        largest = decoded if math.isnan(decoded) else max(largest, decoded)
        at = np.arange(len(answer))
        same += int((expected[at, found.argmax(-1)] >= expected.max(-1) - tie_tolerance).sum())
        generated += len(answer)
    increase = _perplexity(onnx_loss - torch_loss, positions) - 1
    numbers: dict[str, float] = {
        "maxLogitDifference": largest,
        "meanLogitDifference": _ratio(differences, compared),
        "greedyAgreement": _ratio(same, generated),
        "nextTokenAgreement": _ratio(agreed, positions),
        "torchPerplexity": _perplexity(torch_loss, positions),
        "onnxPerplexity": _perplexity(onnx_loss, positions),
        "perplexityIncrease": increase,
    }
    finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    return {**finite, "rows": len(reference.rows), "tokens": positions}


def _loss(logits: Logits, targets: npt.NDArray[np.int64]) -> float:
    """Return the summed negative log-likelihood of the targets, in nats."""
    wide = logits.astype(np.float64)
    top = wide.max(-1, keepdims=True) if len(wide) else wide
    sums = np.log(np.exp(wide - top).sum(-1)) + top[:, 0] if len(wide) else np.zeros(0)
    return float((sums - wide[np.arange(len(targets)), targets]).sum())


def _ratio(part: float, whole: int) -> float:
    return part / whole if whole else math.nan


def _perplexity(loss: float, count: int) -> float:
    return math.exp(loss / count) if count and loss / count < 700 else math.nan


def require_parity(precision: Precision, numbers: Numbers, bounds: ParitySpec) -> None:
    """Fail if an exported model differs too much from the torch model.

    Raises:
        StageError: EXPORT_FAILED, with every number that is out of bounds.
    """
    if precision is Precision.FP32:
        checks = [
            ("maxLogitDifference", "at most", bounds.max_logit_difference),
            ("greedyAgreement", "at least", bounds.min_greedy_agreement),
        ]
    else:
        checks = [
            ("nextTokenAgreement", "at least", bounds.min_next_token_agreement),
            ("perplexityIncrease", "at most", bounds.max_perplexity_increase),
        ]
    wrong = []
    for name, word, bound in checks:
        value = numbers[name]
        # NaN never satisfies a bound.
        holds = value is not None and (value <= bound if word == "at most" else value >= bound)
        if not holds:
            wrong.append(f"{name} is {'not a number' if value is None else format(value, '.4g')}, not {word} {bound:g}")
    if wrong:
        advice = (
            "Export fp32 as well or instead, or widen the bound in export.parity"
            if precision is Precision.INT4
            else "The exporter does not support this model correctly: use another base model"
        )
        raise StageError(
            Reason.EXPORT_FAILED, f"the {precision.value} export is not the trained model: {'; '.join(wrong)}", advice
        )
