"""What a model says of rows: the loss of each, and how many of its tokens it predicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tunesmith_trainer.data.targets import IGNORE_INDEX
from tunesmith_trainer.data.token_store import Example, TokenStore
from tunesmith_trainer.evaluate.batches import length_bucketed_batches
from tunesmith_trainer.evaluate.estimate import Advance, Estimate

_MAX_ROWS = 32
MAX_TOKENS = 8192
"""Most tokens of a batch, with padding."""
_MAX_LOGITS = 1 << 26  # logits of one batch: 256 MiB in fp32


@dataclass(frozen=True)
class Scores:
    """The scores of rows.

    Attributes:
        losses: float64 [rows], the negative log-likelihood of each row's target tokens, in nats.
        targets: int64 [rows], the number of these tokens.
        predicted: int64 [rows], the number of those of them that are the most likely token.
    """

    losses: npt.NDArray[np.float64]
    targets: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, rows: int) -> Scores:
        """Return scores of rows that were not looked at yet."""
        return cls(np.zeros(rows), np.zeros(rows, np.int64), np.zeros(rows, np.int64))

    @property
    def mean_loss(self) -> float:
        """The mean loss of a target token, whatever its row, in nats; NaN if there is none."""
        count = int(self.targets.sum())
        return float(self.losses.sum()) / count if count else math.nan

    @property
    def token_accuracy(self) -> float:
        """The share of target tokens that are the most likely token; NaN if there is none."""
        count = int(self.targets.sum())
        return int(self.predicted.sum()) / count if count else math.nan


def score_store(model: Any, store: TokenStore, rows: int, advance: Advance) -> Scores:  # noqa: ANN401
    """Return the scores of the first rows of a store."""
    return score(model, lambda index: store[index], store.lengths[:rows].tolist(), advance)


@torch.inference_mode()
def score(
    model: Any,  # noqa: ANN401
    row: Callable[[int], Example],
    lengths: Sequence[int],
    advance: Advance,
) -> Scores:
    """Return the scores of rows.

    Args:
        model: A causal language model.
        row: Returns the ids and the mask of a row.
        lengths: Tokens of each row.
        advance: Called with the number of rows just done.
    """
    scores = Scores.empty(len(lengths))
    budget = max(1, min(MAX_TOKENS, _MAX_LOGITS // model.config.vocab_size))
    batches = length_bucketed_batches(lengths, _MAX_ROWS, budget)
    widths = [max(lengths[index] for index in batch) for batch in batches]
    padded = [len(batch) * width for batch, width in zip(batches, widths, strict=True)]
    estimate = Estimate(advance, f"loss on {len(lengths)} rows of {sum(lengths)} tokens", sum(padded))
    for batch, width, tokens_of_batch in zip(batches, widths, padded, strict=True):
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        attention = torch.zeros_like(ids)
        labels = torch.full((len(batch), width), IGNORE_INDEX, dtype=torch.long)
        for slot, index in enumerate(batch):
            tokens, mask = row(index)
            ids[slot, : len(tokens)] = torch.from_numpy(tokens.astype("int64"))
            attention[slot, : len(tokens)] = 1
            is_target = torch.from_numpy(mask.astype(bool))
            labels[slot, : len(tokens)] = ids[slot, : len(tokens)].where(is_target, IGNORE_INDEX)
        ids, attention, labels = (tensor.to(model.device) for tensor in (ids, attention, labels))
        logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, :-1]
        losses, predicted = _of_targets(logits, labels[:, 1:])
        scores.losses[batch] = losses
        scores.predicted[batch] = predicted
        scores.targets[batch] = labels[:, 1:].ne(IGNORE_INDEX).sum(1).cpu().numpy()
        estimate.worked(tokens_of_batch)
        advance(len(batch))
    return scores


def _of_targets(logits: torch.Tensor, labels: torch.Tensor) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the summed loss of each row, float64 [rows], and its predicted targets, int64 [rows].

    Args:
        logits: [rows, positions, vocabulary].
        labels: int64 [rows, positions], `IGNORE_INDEX` where there is no target.
    """
    is_target = labels.ne(IGNORE_INDEX)
    wanted, found = labels[is_target], logits[is_target]
    rows = is_target.nonzero()[:, 0]
    losses = torch.nn.functional.cross_entropy(found.float(), wanted, reduction="none").double()
    sums = torch.zeros(len(labels), dtype=torch.float64, device=labels.device).index_add(0, rows, losses)
    right = found.argmax(-1).eq(wanted).long() if len(wanted) else wanted
    counts = torch.zeros(len(labels), dtype=torch.long, device=labels.device).index_add(0, rows, right)
    return sums.cpu().numpy(), counts.cpu().numpy()
