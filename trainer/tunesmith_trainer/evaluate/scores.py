"""What a model says of rows: the loss of each, and how many of its tokens it predicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tunesmith_trainer.data.targets import IGNORE_INDEX
from tunesmith_trainer.data.token_store import Example, TokenStore
from tunesmith_trainer.evaluate.batches import length_bucketed_batches
from tunesmith_trainer.evaluate.estimate import Advance, Estimate
from tunesmith_trainer.models.chunked_loss import can_compute_loss, head_logits
from tunesmith_trainer.models.loading import without_adapter

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
        losses, predicted = _of_targets(_target_logits(model, ids, attention, labels[:, 1:]), labels[:, 1:])
        scores.losses[batch] = losses
        scores.predicted[batch] = predicted
        scores.targets[batch] = labels[:, 1:].ne(IGNORE_INDEX).sum(1).cpu().numpy()
        estimate.worked(tokens_of_batch)
        advance(len(batch))
    return scores


def _target_logits(
    model: Any,  # noqa: ANN401
    ids: torch.Tensor,
    attention: torch.Tensor,
    labels: torch.Tensor,
) -> Iterator[torch.Tensor]:
    """Yield the logits of the positions with a target, [positions, vocabulary], some after the other.

    All logits of a long row would take several times the memory of a model with a large vocabulary.
    """
    is_target = labels.ne(IGNORE_INDEX)
    if not can_compute_loss(model):
        yield model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, :-1][is_target]
        return
    base = without_adapter(model)
    hidden = base.get_decoder()(input_ids=ids, attention_mask=attention, use_cache=False).last_hidden_state
    for piece in hidden[:, :-1][is_target].split(max(1, _MAX_LOGITS // base.config.vocab_size)):
        yield head_logits(base, piece)


def _of_targets(
    logits: Iterable[torch.Tensor], labels: torch.Tensor
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the summed loss of each row, float64 [rows], and its predicted targets, int64 [rows].

    Args:
        logits: [positions, vocabulary] of the positions with a target, in pieces.
        labels: int64 [rows, positions], `IGNORE_INDEX` where there is no target.
    """
    is_target = labels.ne(IGNORE_INDEX)
    wanted, rows = labels[is_target], is_target.nonzero()[:, 0]
    sums = torch.zeros(len(labels), dtype=torch.float64, device=labels.device)
    counts = torch.zeros(len(labels), dtype=torch.long, device=labels.device)
    start = 0
    for found in logits:
        part = slice(start, start + len(found))
        losses = torch.nn.functional.cross_entropy(found.float(), wanted[part], reduction="none").double()
        sums.index_add_(0, rows[part], losses)
        if len(found):
            counts.index_add_(0, rows[part], found.argmax(-1).eq(wanted[part]).long())
        start = part.stop
    return sums.cpu().numpy(), counts.cpu().numpy()
