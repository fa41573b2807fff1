"""Tokenises texts, or pairs of them, with what is learned of each row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from tunesmith_trainer.data.encode import Encoded
from tunesmith_trainer.data.encoding_log import EncodingLog, Outcome
from tunesmith_trainer.data.errors import dataset_error
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.data.special_tokens import SpecialTokens
from tunesmith_trainer.data.targets import Facts
from tunesmith_trainer.tasks.sequence_classification.problem import REGRESSION
from tunesmith_trainer.tasks.sequence_classification.rows import LabelledRow, label_name
from tunesmith_trainer.tasks.sequence_classification.targets import require_number

_BATCH = 256


@dataclass
class LabelEncoder:
    """Tokenises rows.

    `targets` of a row are the index of the first token of type 1 (the second text; the number of tokens if there is
    none), followed by: the class and its weight; or the classes that apply; or the number.

    Attributes:
        tokenizer: The model's tokenizer (transformers, fast).
        max_length: Largest number of tokens in a row.
        facts: The kind of the problem, and the classes.
        log: Filled while rows are encoded.
    """

    tokenizer: Any
    max_length: int
    facts: Facts
    log: EncodingLog = field(default_factory=EncodingLog)

    def __post_init__(self) -> None:
        self.tokenizer.truncation_side = "right"  # as the server cuts texts
        self._special = SpecialTokens(self.tokenizer)
        self._places = {name: place for place, name in enumerate(self.facts.get("labels", ()))}
        weights = self.facts.get("classWeights") or [1.0] * len(self._places)
        # Only their ratios matter. With 1 as the least, those of a batch never sum up to less than its rows.
        self._weights = [weight / min(weights) for weight in weights]

    def encode(self, rows: Iterable[Row]) -> Iterator[list[Encoded]]:
        """Yield each row, in order.

        Raises:
            StageError: INVALID_DATASET: a row has no tokens.
        """
        remaining = (row for row in rows if isinstance(row, LabelledRow))
        while batch := list(islice(remaining, _BATCH)):
            whole = self._tokenize(batch)
            for row, encoding in zip(batch, whole, strict=True):
                self.log.lengths.add(len(encoding))
                if (token := self._special.find(row.text) or self._special.find(row.pair)) is not None:
                    self.log.add(Outcome.SPECIAL_TOKENS, row.location, token)
                if len(encoding) > self.max_length:
                    self.log.add(Outcome.TRUNCATED, row.location)
                    [encoding] = self._tokenize([row], self.max_length)
                if not len(encoding):
                    raise dataset_error(
                        row.location, "text: the tokenizer leaves nothing of it", "Write words, or remove the row"
                    )
                types = encoding.type_ids
                split = types.index(1) if 1 in types else len(types)
                yield [Encoded(row, encoding.ids, [1] * len(encoding), (split, *self._targets(row)))]

    def _tokenize(self, rows: Sequence[LabelledRow], max_length: int | None = None) -> list[Any]:
        """Return the `tokenizers.Encoding` of each row; of two texts the longer one loses tokens first."""
        texts = [(row.text, row.pair) if row.pair else row.text for row in rows]
        limit = {"truncation": True, "max_length": max_length} if max_length else {}
        found = self.tokenizer(texts, return_attention_mask=False, verbose=False, **limit)
        return list(found.encodings)

    def _targets(self, row: LabelledRow) -> Sequence[float]:
        if self.facts["problemType"] == REGRESSION:
            return (require_number(row.location, row.labels[0]),)
        places = [self._places[label_name(label)] for label in row.labels]
        return places if row.is_list else (places[0], self._weights[places[0]])
