"""Tokenises words and texts, and gives each token its label.

Words are joined by one space and tokenised as a text, as a server does with a sentence, so that spaces are part of
tokens as in the model's own training. Of a word the first token has the word's label and the others have none. Of a
text with entities each token has a label.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from tunesmith_trainer.data.encode import Encoded
from tunesmith_trainer.data.encoding_log import EncodingLog, Outcome
from tunesmith_trainer.data.errors import dataset_error
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.data.special_tokens import SpecialTokens
from tunesmith_trainer.data.targets import IGNORE_INDEX
from tunesmith_trainer.tasks.token_classification.rows import Entity, SpansRow, TaggedRow
from tunesmith_trainer.tasks.token_classification.tags import OUTSIDE, entity_of

log = logging.getLogger(__name__)

_BATCH = 256

Spans = list[tuple[int, int]]
"""First character of each token, and the character after its last one."""


@dataclass
class TagEncoder:
    """Tokenises rows. A row that is too long becomes several pieces, none of which begins within a word.

    Attributes:
        tokenizer: The model's tokenizer (transformers, fast).
        max_length: Largest number of tokens in a piece.
        labels: The labels in the order of their numbers.
        log: Filled while rows are encoded.
        lost_words: Number of words of which the tokenizer leaves nothing.
    """

    tokenizer: Any
    max_length: int
    labels: Sequence[str]
    log: EncodingLog = field(default_factory=EncodingLog)
    lost_words: int = 0

    def __post_init__(self) -> None:
        self._numbers = {label: number for number, label in enumerate(self.labels)}
        self._special = SpecialTokens(self.tokenizer)
        self._room = self.max_length - int(self.tokenizer.num_special_tokens_to_add(pair=False))

    def encode(self, rows: Iterable[Row]) -> Iterator[list[Encoded]]:
        """Yield the pieces of each row, in order.

        Raises:
            StageError: INVALID_DATASET: a row cannot be encoded.
        """
        remaining = iter(rows)
        while batch := list(islice(remaining, _BATCH)):
            texts = [" ".join(row.words) if isinstance(row, TaggedRow) else row.text for row in batch]
            encodings = self.tokenizer(texts, return_attention_mask=False, verbose=False).encodings
            for row, text, encoding in zip(batch, texts, encodings, strict=True):
                if (token := self._special.find(text)) is not None:
                    self.log.add(Outcome.SPECIAL_TOKENS, row.location, token)
                yield self._pieces(row, encoding)
        if self.lost_words:
            log.warning("%d words have no token: the tokenizer leaves nothing of them", self.lost_words)

    def _pieces(self, row: Row, encoding: Any) -> list[Encoded]:  # noqa: ANN401 - tokenizers.Encoding
        """Return the pieces of a row."""
        inner = [index for index, sequence in enumerate(encoding.sequence_ids) if sequence is not None]
        if not inner:
            raise dataset_error(row.location, "the tokenizer leaves nothing of the row", "Remove it, or write words")
        before, after = encoding.ids[: inner[0]], encoding.ids[inner[-1] + 1 :]
        ids = encoding.ids[inner[0] : inner[-1] + 1]
        offsets = encoding.offsets[inner[0] : inner[-1] + 1]
        self.log.lengths.add(len(encoding.ids))
        if isinstance(row, TaggedRow):
            tags, beginnings = self._tags_of_words(row, offsets)
            parts, is_cut = split(len(ids), beginnings, self._room)
        else:
            tags, beginnings = self._tags_of(row, offsets)
            words = encoding.word_ids[inner[0] : inner[-1] + 1]
            between = [index for index in beginnings if index == 0 or words[index] != words[index - 1]]
            parts, is_cut = split(len(ids), between, self._room)
            if is_cut:  # a word of hundreds of tokens, as in texts without spaces
                parts, is_cut = split(len(ids), beginnings, self._room)
        if is_cut:
            self.log.add(Outcome.TRUNCATED, row.location, "a word is longer than maxLength")
        elif len(parts) > 1:
            self.log.add(Outcome.SPLIT, row.location)
        numbers = [IGNORE_INDEX if tag is None else self._numbers[tag] for tag in tags]
        outside = [IGNORE_INDEX] * max(len(before), len(after))
        pieces = []
        for start, end in parts:
            targets = [*outside[: len(before)], *numbers[start:end], *outside[: len(after)]]
            tokens = [*before, *ids[start:end], *after]
            pieces.append(Encoded(row, tokens, [1] * len(tokens), targets))
        return pieces

    def _tags_of_words(self, row: TaggedRow, offsets: Spans) -> tuple[list[str | None], list[int]]:
        """Return the tag of each token, and the tokens that words begin with."""
        firsts = first_tokens(row.words, offsets)
        tags: list[str | None] = [None] * len(offsets)
        lost = ""  # the entity whose first words the tokenizer leaves nothing of
        for first, tag in zip(firsts, row.tags, strict=True):
            if first is None:
                self.lost_words += 1
                if tag.startswith("B-") or (lost and tag == f"I-{lost}"):
                    lost = entity_of(tag)
                continue
            tags[first] = f"B-{lost}" if lost and tag == f"I-{lost}" else tag
            lost = ""
        return tags, sorted({first for first in firsts if first is not None})

    def _tags_of(self, row: Row, offsets: Spans) -> tuple[list[str | None], list[int]]:
        """Return the tag of each token of a text, and the tokens before which it can be cut: not within entities.

        Raises:
            StageError: INVALID_DATASET: an entity begins or ends within a token.
        """
        entities = row.entities if isinstance(row, SpansRow) else ()
        tags = tags_of_entities(row.location, row.text, entities, offsets)
        beginnings = [
            index
            for index, tag in enumerate(tags)
            # Not between the tokens of one character either, nor within an entity.
            if not tag.startswith("I-") and (index == 0 or offsets[index][0] >= offsets[index - 1][1])
        ]
        return list(tags), beginnings


def first_tokens(words: Sequence[str], offsets: Spans) -> list[int | None]:
    """Return the first token of each word; None for a word of which the tokenizer leaves nothing.

    Args:
        words: Words that are joined by one space each.
        offsets: Where the tokens of this text are.
    """
    found: list[int | None] = []
    token = start = 0
    for word in words:
        end = start + len(word)
        while token < len(offsets) and (offsets[token][1] <= start or offsets[token][0] == offsets[token][1]):
            token += 1
        is_here = token < len(offsets) and offsets[token][0] < end
        found.append(token if is_here else None)
        token += is_here
        start = end + 1
    return found


def tags_of_entities(location: str, text: str, entities: Sequence[Entity], offsets: Spans) -> list[str]:
    """Return the tag of each token of a text, in BIO.

    Args:
        location: Location of the row.
        text: The text.
        entities: Its entities, in order.
        offsets: Where its tokens are.

    Raises:
        StageError: INVALID_DATASET: an entity begins or ends within a token, or has none.
    """
    tags = [OUTSIDE] * len(offsets)
    spans = [_trimmed(text, *span) for span in offsets]
    token = 0
    for entity in entities:
        start, end = _trimmed(text, entity.start, entity.end)
        while token < len(spans) and spans[token][1] <= start:
            token += 1
        first = token
        while token < len(spans) and spans[token][0] < end:
            tags[token] = f"{'B' if token == first else 'I'}-{entity.label}"
            token += 1
        where = f"spans: {entity.label} from {entity.start} to {entity.end} ({text[entity.start : entity.end]!r})"
        if token == first:
            raise dataset_error(
                location, f"{where} has no token of its own", "Correct start and end, or remove the span"
            )
        whole = spans[first][0], spans[token - 1][1]
        if whole[0] < start or whole[1] > end:
            raise dataset_error(
                location,
                f"{where} begins or ends within a token: {text[slice(*whole)]!r}, {whole[0]} to {whole[1]}",
                f"Write start: {whole[0]} and end: {whole[1]}, put a space between the two, or use another base model",
            )
    return tags


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a span without the white space at its ends."""
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    return start, start + len(part.strip())


def split(tokens: int, beginnings: Sequence[int], room: int) -> tuple[list[tuple[int, int]], bool]:
    """Return the pieces of a row, first token and the one after the last, and whether tokens were cut off.

    A piece ends before the last beginning that leaves it no longer than `room`. Where a single part between two
    beginnings is longer than that, it loses its last tokens.

    Args:
        tokens: Tokens of the row, without special tokens.
        beginnings: The tokens before which it can be cut, ascending.
        room: Largest number of tokens of a piece.
    """
    if tokens <= room:
        return [(0, tokens)], False
    ends = [*(index for index in beginnings if index > 0), tokens]
    pieces, is_cut, start = [], False, 0
    last = 0  # the last end that fits
    for end in ends:
        if end - start > room and last > start:
            pieces.append((start, last))
            start = last
        if end - start > room:
            is_cut = True
            pieces.append((start, start + room))
            start = end
        last = end
    if last > start:
        pieces.append((start, last))
    return pieces, is_cut
