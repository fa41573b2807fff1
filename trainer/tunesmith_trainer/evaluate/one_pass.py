"""What models compute that answer in one forward pass, always in fp32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tunesmith_trainer.evaluate.batches import length_bucketed_batches
from tunesmith_trainer.models.widening import in_float32

Rows = Sequence[Sequence[int]]
Outputs = tuple[npt.NDArray[np.float32], ...]
OutputsOf = Callable[[Rows], Iterable[tuple[int, Outputs]]]
"""Returns what a model computes for rows: the index of each with its outputs, in any order."""

_MAX_ROWS = 64
_MAX_TOKENS = 4096


def padded_inputs(rows: Rows, pad: int, *, multiple: int = 1) -> dict[str, torch.Tensor]:
    """Return `input_ids` and `attention_mask` of rows that are padded on the right, int64 [rows, width].

    Args:
        rows: Token ids of each row.
        pad: The token that rows are padded with.
        multiple: The width is a multiple of this.
    """
    width = -(-max(len(row) for row in rows) // multiple) * multiple
    ids = padded_rows(rows, pad, width)
    return {"input_ids": ids, "attention_mask": padded_rows([[1] * len(row) for row in rows], 0, width)}


@torch.inference_mode()
def outputs_of(
    model: Any,  # noqa: ANN401 - a transformers model
    rows: Rows,
    inputs: Callable[[Rows], Mapping[str, torch.Tensor]],
    names: Sequence[str],
    *,
    per_token: bool,
    most: int = _MAX_ROWS,
) -> Iterator[tuple[int, Outputs]]:
    """Yield the index of each row with its outputs, longest rows first.

    Args:
        model: The model.
        rows: Token ids of each row.
        inputs: Returns the model's inputs for a batch of rows, [rows, width].
        names: Names of the outputs.
        per_token: Whether the outputs have a value for each token: [rows, width, ...].
        most: Rows of a batch.

    Returns:
        Of each output what belongs to the row, float32: [labels], or [tokens, ...] of the row's own tokens.
    """
    for batch in length_bucketed_batches([len(row) for row in rows], most, _MAX_TOKENS):
        given = inputs([rows[index] for index in batch])
        with in_float32(model):
            found = model(**{name: value.to(model.device) for name, value in given.items()})
        arrays = [getattr(found, name).float().cpu().numpy() for name in names]
        for slot, index in enumerate(batch):
            yield index, tuple(array[slot, : len(rows[index])] if per_token else array[slot] for array in arrays)


def padded_rows(rows: Rows, value: int, width: int) -> torch.Tensor:
    """Return rows that are padded on the right, int64 [rows, width].

    Args:
        rows: Whole numbers of each row.
        value: What they are padded with.
        width: The width.
    """
    found = torch.full((len(rows), width), value, dtype=torch.int64)
    for place, row in enumerate(rows):
        found[place, : len(row)] = torch.as_tensor(np.asarray(row, np.int64))
    return found
