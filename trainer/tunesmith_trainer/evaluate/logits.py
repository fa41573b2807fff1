"""The logits of chosen positions of rows, always computed in fp32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tunesmith_trainer.evaluate.batches import length_bucketed_batches
from tunesmith_trainer.models.loading import takes_logits_to_keep
from tunesmith_trainer.models.widening import in_float32

Logits = npt.NDArray[np.float32]

_MAX_ROWS = 64
_MAX_LOGITS = 1 << 26  # logits of one batch: 256 MiB
_MAX_TOKENS = 4096
_COMPARED_TOKENS = 512  # of a row for which models are compared
_COMPARED_LOGITS = 1 << 24  # of all of these rows together: 64 MiB


@torch.inference_mode()
def logits_of(
    model: Any,  # noqa: ANN401 - a transformers model
    rows: Sequence[Sequence[int]],
    positions: Sequence[Sequence[int]],
) -> Iterator[tuple[int, Logits]]:
    """Yield the index of each row with its logits, float32 [positions, vocabulary], longest rows first.

    Many rows go through the model at once, as a large model's weights are widened for each batch.

    Args:
        model: A causal language model.
        rows: Token ids of each row.
        positions: Of each row, the positions whose logits are wanted, ascending.
    """
    budget = max(1, min(_MAX_TOKENS, _MAX_LOGITS // model.config.vocab_size))
    for batch in length_bucketed_batches([len(row) for row in rows], _MAX_ROWS, budget):
        width = max(len(rows[index]) for index in batch)
        # Padded on the right, where no earlier token attends to it.
        ids = torch.tensor([[*rows[index], *[0] * (width - len(rows[index]))] for index in batch], device=model.device)
        wanted = sorted({position for index in batch for position in positions[index]})
        found = _forward(model, ids, torch.tensor(wanted, dtype=torch.long, device=model.device))
        places = {position: place for place, position in enumerate(wanted)}
        for slot, index in enumerate(batch):
            yield index, found[slot, [places[position] for position in positions[index]]].float().cpu().numpy()


def compared_logits(model: Any, rows: Sequence[Sequence[int]]) -> list[Logits]:  # noqa: ANN401
    """Return logits of rows for comparing models, of each row float32 [positions, vocabulary].

    Args:
        model: A causal language model.
        rows: Token ids of a few rows.
    """
    share = max(1, _COMPARED_LOGITS // (model.config.vocab_size * max(1, len(rows))))
    cut = [row[:_COMPARED_TOKENS] for row in rows]
    positions = [sorted(set(np.linspace(0, len(row) - 1, min(share, len(row))).astype(int).tolist())) for row in cut]
    return [logits for _, logits in sorted(logits_of(model, cut, positions), key=lambda pair: pair[0])]


def _forward(model: Any, ids: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
    """Return the logits of some positions, [rows, positions, vocabulary]."""
    with in_float32(model):
        if takes_logits_to_keep(model):
            return model(input_ids=ids, logits_to_keep=wanted, use_cache=False).logits
        return model(input_ids=ids, use_cache=False).logits[:, wanted]
