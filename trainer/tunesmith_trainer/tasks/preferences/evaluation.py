"""Metrics of pairs of answers: what a model prefers, beside what the base model does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tunesmith_api.spec import DpoSpec
from tunesmith_trainer.data.pairs import unpacked
from tunesmith_trainer.data.token_store import Example, TokenStore
from tunesmith_trainer.evaluate.estimate import Advance
from tunesmith_trainer.evaluate.evaluation import finite
from tunesmith_trainer.evaluate.scores import Scores, score
from tunesmith_trainer.export.onnx_runner import OnnxModel
from tunesmith_trainer.export.served import onnx_scores
from tunesmith_trainer.tasks.preferences.batches import pair_lengths
from tunesmith_trainer.tasks.preferences.loss import Comparison


def scores_of_pairs(model: Any, store: TokenStore, rows: int, advance: Advance) -> tuple[Scores, Scores]:  # noqa: ANN401
    """Return the scores of the better and of the worse answers of the first pairs.

    Args:
        model: The model.
        store: The pairs.
        rows: Number of pairs.
        advance: Called with the number of pairs just done.
    """
    lengths, both = store.lengths[:rows], pair_lengths(store)[:rows]
    better = score(model, lambda index: _better(store, index), lengths.tolist(), lambda count: None)
    worse = score(model, lambda index: _worse(store, index), (both - lengths).tolist(), advance)
    return better, worse


def served_scores_of_pairs(
    exported: OnnxModel, store: TokenStore, rows: int, advance: Advance
) -> tuple[Scores, Scores]:
    """Return the same of an exported model."""
    better = onnx_scores(exported, lambda index: _better(store, index), rows, lambda count: None)
    return better, onnx_scores(exported, lambda index: _worse(store, index), rows, advance)


def _better(store: TokenStore, index: int) -> Example:
    ids, mask, *_ = store[index]
    return ids, mask


def _worse(store: TokenStore, index: int) -> Example:
    _, _, targets = store[index]  # type: ignore[misc]  # a LabelledStore
    return unpacked(targets)


def with_rewards(
    result: Mapping[str, Any],
    spec: DpoSpec,
    better: Scores,
    worse: Scores,
    before: Any,  # noqa: ANN401 - JSON
) -> dict[str, Any]:
    """Return an evaluation with the loss of the pairs, reward accuracy and margin.

    Args:
        result: The evaluation of the better answers; its evalLoss is replaced.
        spec: The objective.
        better: The scores of the better answers.
        worse: The scores of the worse ones.
        before: What this function has returned as `reference` for the base model; None for the base model itself.

    Returns:
        The evaluation, with `reference`: the log-probabilities of all answers, [2, pairs].
    """
    logps = torch.tensor([(-better.losses).tolist(), (-worse.losses).tolist()], dtype=torch.float64)
    reference = logps if before is None else torch.tensor(before, dtype=torch.float64)
    tokens = torch.tensor([better.targets.tolist(), worse.targets.tolist()])
    compared = Comparison.of(logps, reference, tokens)
    accuracies, margins = compared.rewards(spec)
    rewards = {
        "evalLoss": float(compared.losses(spec).mean()),
        "rewardAccuracy": float(accuracies.mean()),
        "rewardMargin": float(margins.mean()),
    }
    return {**result, "metrics": {**result["metrics"], **finite(rewards)}, "reference": logps.tolist()}
