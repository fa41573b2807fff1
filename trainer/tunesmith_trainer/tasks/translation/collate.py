"""Collates pairs into batches of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from tunesmith_trainer.data.targets import IGNORE_INDEX
from tunesmith_trainer.data.token_store import LabelledExample
from tunesmith_trainer.evaluate.one_pass import padded_inputs, padded_rows


class PairCollator:
    """Puts pairs into tensors, padded on the right.

    Attributes:
        pad: The token that sources are padded with.
        shift: Returns what the decoder is given for labels, int64 [rows, length]: the start token, then the labels but
            the last. The model's own `prepare_decoder_input_ids_from_labels`.
        multiple: Lengths are rounded up to a multiple of this.
    """

    def __init__(self, pad: int, shift: Callable[[torch.Tensor], torch.Tensor], multiple: int = 1) -> None:
        self.pad = pad
        self.shift = shift
        self.multiple = multiple

    def __call__(self, examples: Sequence[LabelledExample]) -> dict[str, Any]:
        """Return the model's inputs and the labels.

        `input_ids`, `attention_mask` are int64 [rows, source]; `decoder_input_ids` and `labels`, the token after each
        of them, int64 [rows, target]. Labels of padding are `IGNORE_INDEX`.
        """
        inputs = padded_inputs([ids.tolist() for ids, _, _ in examples], self.pad, multiple=self.multiple)
        targets = [[int(token) for token in target] for _, _, target in examples]
        longest = -(-max(map(len, targets)) // self.multiple) * self.multiple
        labels = padded_rows(targets, IGNORE_INDEX, longest)
        return {**inputs, "decoder_input_ids": self.shift(labels), "labels": labels}
