"""Tokenises pairs of answers. Both are whole rows of tokens, with the same prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_trainer.data.chat import Span
from tunesmith_trainer.data.encode import Encoded, Encoder, split_exchanges
from tunesmith_trainer.data.encoding_log import Outcome
from tunesmith_trainer.data.errors import dataset_error
from tunesmith_trainer.data.preferences import PreferenceRow
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.data.token_store import Example


@dataclass(frozen=True)
class EncodedPair(Encoded):
    """A tokenised pair: the better answer, and the worse one in `targets` as `packed` writes it.

    Attributes:
        rejected: The worse answer.
    """

    rejected: Encoded | None = None

    @property
    def parts(self) -> Sequence[Encoded]:
        """Both answers."""
        return (self,) if self.rejected is None else (self, self.rejected)


def packed(ids: Sequence[int], mask: Sequence[int]) -> list[float]:
    """Return tokens with their mask as one list: a target's id as it is, another's as -1 - id."""
    return [float(token if target else -1 - token) for token, target in zip(ids, mask, strict=True)]


def unpacked(targets: npt.NDArray[np.float64]) -> Example:
    """Return what `packed` was given: ids int32 [tokens] and mask uint8 [tokens]."""
    numbers = targets.astype(np.int32)
    is_target = numbers >= 0
    return np.where(is_target, numbers, -1 - numbers), is_target.astype(np.uint8)


@dataclass
class PairEncoder(Encoder):
    """Tokenises rows of preference data."""

    def _begin(self, batch: list[Row], thread: Executor) -> Iterator[list[Encoded]]:
        """Let a thread tokenise some rows, and return the iterator over their pairs."""
        pairs = [row for row in batch if isinstance(row, PreferenceRow)]
        rendered = [self.chat.text_and_spans(row) for pair in pairs for row in (pair.chosen_row, pair.rejected_row)]
        encodings = thread.submit(self._tokenize, [text for text, _ in rendered])
        return self._pairs(pairs, [spans for _, spans in rendered], encodings)

    def _pairs(
        self, pairs: list[PreferenceRow], spans: list[list[Span]], encodings: Future[list[Any]]
    ) -> Iterator[list[Encoded]]:
        found = zip(encodings.result(), spans, strict=True)
        for pair in pairs:
            for row in (pair.chosen_row, Row(pair.location, (pair.rejected,))):
                self._note_special_tokens(row)
            (first, first_spans), (second, second_spans) = next(found), next(found)
            self.log.lengths.add(max(len(first), len(second)))
            chosen = Encoded(pair.chosen_row, first.ids, self._mask(first, first_spans))
            rejected = Encoded(pair.rejected_row, second.ids, self._mask(second, second_spans))
            fitting = self._fit_pair(pair, chosen, rejected)
            yield [fitting] if fitting else []

    def _fit_pair(self, pair: PreferenceRow, chosen: Encoded, rejected: Encoded) -> Encoded | None:
        """Return the pair, shortened if one of its answers is too long, or None if it must be skipped."""
        if max(len(chosen.ids), len(rejected.ids)) > self.max_length:
            shorter = self._shorten_pair(pair)
            if shorter is None:
                self.log.add(Outcome.SKIPPED, pair.location)
                return None
            self.log.add(Outcome.TRUNCATED, pair.location)
            chosen, rejected = shorter
        for name, answer in (("better", chosen), ("worse", rejected)):
            if not any(answer.mask[1:]):
                raise dataset_error(
                    pair.location,
                    f"the model's chat template leaves nothing of the {name} answer to learn",
                    "Change the answer, or the model's chat_template.jinja",
                )
        if chosen.ids == rejected.ids:
            raise dataset_error(
                pair.location,
                "both answers become the same tokens, so neither is better",
                "Let them differ by more than what the model's chat template removes, such as white space",
            )
        return EncodedPair(chosen.row, chosen.ids, chosen.mask, packed(rejected.ids, rejected.mask), rejected)

    def _shorten_pair(self, pair: PreferenceRow) -> tuple[Encoded, Encoded] | None:
        """Return both answers to the prompt without its oldest exchanges; None if its last one alone is too long.

        Drops as few exchanges as possible and keeps the system turn.
        """
        prompt = pair.turns[:-1]
        system = tuple(turn for turn in prompt if turn.role == "system")
        exchanges = split_exchanges([turn for turn in prompt if turn.role != "system"])
        fits: tuple[Encoded, Encoded] | None = None
        low, high = 1, len(exchanges) - 1
        while low <= high:
            middle = (low + high) // 2
            kept = tuple(turn for exchange in exchanges[middle:] for turn in exchange)
            shorter = pair.with_prompt((*system, *kept))
            both = self._encode_one(shorter.chosen_row), self._encode_one(shorter.rejected_row)
            if max(len(answer.ids) for answer in both) > self.max_length:
                low = middle + 1
            else:
                fits, high = both, middle - 1
        return fits
