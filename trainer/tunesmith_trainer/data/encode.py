"""Rows as tokens, with the mask of what is learned, no longer than the limit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

from tunesmith_trainer.data.chat import ChatFormat, Span, TurnsNotSeparableError
from tunesmith_trainer.data.errors import dataset_error
from tunesmith_trainer.data.rows import Row, Turn

_BATCH = 256


@dataclass(frozen=True)
class Encoded:
    """A row as tokens.

    Attributes:
        row: The row, without the turns that were dropped.
        ids: Token ids.
        mask: 1 where the token is learned, else 0; as long as `ids`.
    """

    row: Row
    ids: list[int]
    mask: list[int]


@dataclass
class Counts:
    """What happened to the rows that were too long.

    Attributes:
        truncated: Conversations that lost their oldest turns, and texts that were cut into several rows.
        skipped: Conversations whose last exchange alone is too long.
    """

    truncated: int = 0
    skipped: int = 0


@dataclass
class Encoder:
    """Turns rows into tokens.

    Attributes:
        tokenizer: The model's tokenizer (transformers, fast).
        max_length: Most tokens of a row.
        loss_on: Which tokens of a conversation are learned.
        counts: Counted up as rows are encoded.
    """

    tokenizer: Any
    max_length: int
    loss_on: Literal["assistant", "all"] = "assistant"
    counts: Counts = field(default_factory=Counts)
    _chat: ChatFormat | None = None

    @property
    def chat(self) -> ChatFormat:
        """The tokenizer's chat template."""
        if self._chat is None:
            self._chat = ChatFormat(self.tokenizer)
        return self._chat

    def encode(self, rows: Iterable[Row]) -> Iterator[list[Encoded]]:
        """Yield what each row becomes, in order: one or several rows of tokens, or none when it is skipped.

        Raises:
            StageError: A row cannot be encoded, or nothing in it would be learned.
        """
        iterator = iter(rows)
        while batch := list(islice(iterator, _BATCH)):
            if batch[0].turns:
                yield from self._conversations(batch)
            else:
                yield from self._texts(batch)

    def prompt_ids(self, row: Row) -> tuple[list[int], str]:
        """Return the tokens up to the assistant's last turn, generation prompt included, and that turn's text."""
        prompt, answer = self.chat.question(row)
        return self._tokenize([prompt])[0][0], answer

    def _tokenize(self, texts: list[str]) -> list[tuple[list[int], list[Span]]]:
        """Return `(ids, character spans)` of texts that hold their special tokens already."""
        out = self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return list(zip(out["input_ids"], out["offset_mapping"], strict=True))

    def _texts(self, batch: list[Row]) -> Iterator[list[Encoded]]:
        """Yield the pieces of each text; its end is marked by the end-of-text token."""
        eos = self.tokenizer.eos_token_id
        out = self.tokenizer([row.text for row in batch], verbose=False)
        for row, ids in zip(batch, out["input_ids"], strict=True):
            if eos is not None and (not ids or ids[-1] != eos):
                ids = [*ids, eos]
            pieces = [ids[start : start + self.max_length] for start in range(0, len(ids), self.max_length)]
            pieces = [piece for piece in pieces if len(piece) > 1]  # a single token has none before it to learn from
            if not pieces:
                raise dataset_error(row.location, "the text is a single token", "Write a longer text")
            self.counts.truncated += len(pieces) > 1
            yield [Encoded(row, piece, [1] * len(piece)) for piece in pieces]

    def _conversations(self, batch: list[Row]) -> Iterator[list[Encoded]]:
        """Yield what each conversation becomes: one row, or one for each answer where the template asks for it."""
        groups = [self._render(row) for row in batch]
        tokens = iter(self._tokenize([text for group in groups for _, text, _ in group]))
        for group in groups:
            encoded = []
            for row, _, spans in group:
                ids, offsets = next(tokens)
                fitting = self._fit(Encoded(row, ids, self._mask(offsets, spans)))
                encoded += [fitting] if fitting else []
            yield encoded

    def _render(self, row: Row) -> list[tuple[Row, str, list[Span]]]:
        """Return `(row, text, learned spans)` of a conversation.

        Some templates write an answer differently once others follow (without its reasoning, for example). There each
        answer becomes a row of its own, at whose end it stands as the model is to give it.
        """
        try:
            return [(row, *self.chat.text_and_spans(row))]
        except TurnsNotSeparableError:
            learned = [index for index, turn in enumerate(row.turns) if turn.learned]
            if learned == [len(row.turns) - 1]:
                raise
        before = [turn._replace(learned=False) for turn in row.turns]
        rows = [replace(row, turns=(*before[:index], row.turns[index])) for index in learned]
        return [(part, *self.chat.text_and_spans(part)) for part in rows]

    def _fit(self, encoded: Encoded) -> Encoded | None:
        """Return the row, shortened where it is too long, or None when it must be skipped."""
        if len(encoded.ids) > self.max_length:
            shorter = self._shorten(encoded.row)
            if shorter is None:
                self.counts.skipped += 1
                return None
            self.counts.truncated += 1
            encoded = shorter
        if not any(encoded.mask[1:]):
            raise dataset_error(
                encoded.row.location,
                "the model's chat template leaves nothing of the assistant's turns to learn",
                "Change the row's turns, or the model's chat_template.jinja",
            )
        return encoded

    def _mask(self, offsets: Sequence[Span], spans: Sequence[Span]) -> list[int]:
        """Return 1 for each token that begins within a span (or for all, with loss_on all).

        Byte-level tokenizers that trim offsets give a token of white space the empty span at its end.
        """
        if self.loss_on == "all":
            return [1] * len(offsets)
        mask, index = [0] * len(offsets), 0
        for position, (start, end) in enumerate(offsets):
            blank = start == end
            while index < len(spans) and (start > spans[index][1] or (start == spans[index][1] and not blank)):
                index += 1
            if index == len(spans):
                break
            mask[position] = int(start > spans[index][0] if blank else start >= spans[index][0])
        return mask

    def _one(self, row: Row) -> Encoded:
        text, spans = self.chat.text_and_spans(row)
        ids, offsets = self._tokenize([text])[0]
        return Encoded(row, ids, self._mask(offsets, spans))

    def _shorten(self, row: Row) -> Encoded | None:
        """Return the conversation without its oldest exchanges, or None when the last one alone is too long.

        As few exchanges as possible go; the system's turn stays.
        """
        system = [turn for turn in row.turns if turn.role == "system"]
        exchanges = split_exchanges([turn for turn in row.turns if turn.role != "system"])
        fits: Encoded | None = None
        low, high = 1, len(exchanges) - 1
        while low <= high:
            middle = (low + high) // 2
            kept = [turn for exchange in exchanges[middle:] for turn in exchange]
            encoded = None
            if any(turn.learned for turn in kept):
                encoded = self._one(replace(row, turns=(*system, *kept)))
            if encoded is not None and len(encoded.ids) > self.max_length:
                low = middle + 1
            else:
                fits, high = encoded, middle - 1
        return fits


def split_exchanges(turns: Sequence[Turn]) -> list[list[Turn]]:
    """Return the turns in groups, each beginning where a user speaks after someone else."""
    groups: list[list[Turn]] = []
    for index, turn in enumerate(turns):
        if not groups or (turn.role == "user" and turns[index - 1].role != "user"):
            groups.append([])
        groups[-1].append(turn)
    return groups
