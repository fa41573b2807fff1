"""Tokenises pairs: the source's tokens are the row, the target's tokens its targets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from tunesmith_trainer.data.encode import Encoded
from tunesmith_trainer.data.encoding_log import EncodingLog, Outcome
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.data.special_tokens import SpecialTokens
from tunesmith_trainer.models.checks import invalid
from tunesmith_trainer.tasks.translation.rows import TranslationRow

_BATCH = 256


@dataclass
class PairEncoder:
    """Tokenises pairs.

    Attributes:
        tokenizer: The model's tokenizer (transformers, fast), with the languages that it marks texts with.
        max_length: Largest number of tokens of a source and of a target. A pair with more of either is skipped: what is
            left of a text that is cut is not the translation of the other.
        prefix: Text before each source.
        language: The targets' language; None if it is not known.
        log: Filled while rows are encoded.
    """

    tokenizer: Any
    max_length: int
    prefix: str = ""
    language: str | None = None
    log: EncodingLog = field(default_factory=EncodingLog)

    def __post_init__(self) -> None:
        """Look at the tokenizer.

        Raises:
            StageError: INVALID_MODEL: it has no token that ends a text.
        """
        self._special = SpecialTokens(self.tokenizer)
        self._end = self.tokenizer.eos_token_id
        if self._end is None:
            raise invalid(
                str(self.tokenizer.name_or_path),
                "the tokenizer has no token that ends a text, so no translation would end",
                'Write "eos_token" in tokenizer_config.json, as in "eos_token": "</s>"',
            )

    def encode(self, rows: Iterable[Row]) -> Iterator[list[Encoded]]:
        """Yield the pieces of each row, in order: one, or none if the row is skipped."""
        iterator = iter(rows)
        while batch := [row for row in islice(iterator, _BATCH) if isinstance(row, TranslationRow)]:
            sources = self._tokens([self.prefix + row.source for row in batch])
            targets = self._targets([row.target for row in batch])
            for row, source, target in zip(batch, sources, targets, strict=True):
                yield self._pieces(row, source, target)

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        found: list[list[int]] = self.tokenizer(texts, verbose=False)["input_ids"]
        return found

    def _targets(self, texts: list[str]) -> list[list[int]]:
        """Return the tokens of targets, with one that ends the text: the model has to learn when to stop."""
        found = self.tokenizer(text_target=texts, verbose=False)["input_ids"]
        # mBART's first generation writes the language after it.
        return [ids if self._end in ids[-2:] else [*ids, self._end] for ids in found]

    def _pieces(self, row: TranslationRow, source: list[int], target: list[int]) -> list[Encoded]:
        self.log.lengths.add(max(len(source), len(target)))
        for side, ids in (("source", source), ("target", target)):
            if len(ids) > self.max_length:
                self.log.add(Outcome.SKIPPED, row.location, f"its {side} has {len(ids)} tokens")
                return []
        token = self._special.find(row.source) or self._special.find(row.target)
        if token is not None:
            self.log.add(Outcome.SPECIAL_TOKENS, row.location, token)
        return [Encoded(row, source, [1] * len(source), target)]
