"""Compares an export with the torch model: rows beside another in a padded batch, and answers token by token alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tunesmith_trainer.export.encoder_decoder.reference import split
from tunesmith_trainer.export.encoder_decoder.runner import EncoderDecoder, Floats
from tunesmith_trainer.export.parity import Numbers, measure
from tunesmith_trainer.export.reference import TorchReference


def compare(exported: Path, reference: Path, tie_tolerance: float) -> Numbers:
    """Return the differences; see `export.parity.measure`.

    Args:
        exported: The export.
        reference: The folder of `reference.record`.
        tie_tolerance: In greedy generation, a token counts as equal if its logit in torch is at most this much below
            the largest.
    """
    expected = TorchReference(reference)
    sources = [split(row)[0] for row in expected.rows]
    compared = ComparedModel(EncoderDecoder(exported), (min(sources, key=len), max(sources, key=len)))
    return measure(compared, expected, tie_tolerance)


class ComparedModel:
    """An export that is asked for the logits of sequences as `reference` makes them.

    Attributes:
        exported: The export.
        beside: The shortest and the longest source. One of them stands beside each row, so that one of both is padded.
    """

    def __init__(self, exported: EncoderDecoder, beside: tuple[Sequence[int], Sequence[int]]) -> None:
        self.exported = exported
        self.beside = beside

    def logits_at(self, ids: Sequence[int], positions: Sequence[int]) -> Floats:
        """Return the logits at positions, float32 [positions, vocabulary], computed in a batch of two in two steps."""
        source, inputs = list(ids[: positions[0]]), list(ids[positions[0] : -1])
        other = next((one for one in reversed(self.beside) if len(one) != len(source)), self.beside[0])
        batch = self.exported.encode([other, source])
        middle = -(-len(inputs) // 2)
        parts = [
            self.exported.step(batch, np.array([part, part], np.int64))[1]
            for part in (inputs[:middle], inputs[middle:])
            if part
        ]
        return np.concatenate(parts)

    def decode(self, prompt: Sequence[int], answer: Sequence[int]) -> Floats:
        """Return the logits before each token of an answer, float32 [tokens, vocabulary], computed one by one.

        Args:
            prompt: The source and the start token.
            answer: The tokens of the answer.
        """
        *source, start = prompt
        batch = self.exported.encode([source])
        return np.concatenate(
            [self.exported.step(batch, np.array([[token]], np.int64))[0] for token in (start, *answer[:-1])]
        )
