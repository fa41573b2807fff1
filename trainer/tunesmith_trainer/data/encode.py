"""Tokenises rows: token ids and a loss mask, no longer than the limit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tunesmith_api.failures import StageError
from tunesmith_trainer.data.chat import ChatFormat, Span, TurnsNotSeparableError
from tunesmith_trainer.data.encoding_log import EncodingLog, Outcome
from tunesmith_trainer.data.errors import dataset_error
from tunesmith_trainer.data.rows import Row, Turn
from tunesmith_trainer.data.special_tokens import SpecialTokens

_BATCH = 256  # rows that are tokenised together, or fewer if they are long
_BATCH_CHARACTERS = 4 << 20

Rendered = tuple[Row, str, list[Span]]
"""A conversation, its text, and the spans of the text that the loss is computed on."""


@dataclass(frozen=True)
class Encoded:
    """A tokenised row.

    Attributes:
        row: The row, without the turns that were dropped to shorten it.
        ids: Token ids.
        mask: The loss mask, as long as `ids`: 1 for a target token, else 0.
        targets: What is learned, where that is not the next token: labels, positions or the tokens of an answer, as
            the task says. As many of them as it takes.
    """

    row: Row
    ids: list[int]
    mask: list[int]
    targets: Sequence[float] = ()

    @property
    def parts(self) -> Sequence[Encoded]:
        """The sequences of tokens that it has: itself, or the two answers of a pair."""
        return (self,)


@dataclass
class Encoder:
    """Tokenises rows.

    Attributes:
        tokenizer: The model's tokenizer (transformers, fast).
        max_length: Largest number of tokens in a row.
        loss_on: Which tokens of a conversation are targets.
        log: Filled while rows are encoded.
    """

    tokenizer: Any
    max_length: int
    loss_on: Literal["assistant", "all"] = "assistant"
    log: EncodingLog = field(default_factory=EncodingLog)
    _chat: ChatFormat | None = None
    _special: SpecialTokens | None = None

    @property
    def chat(self) -> ChatFormat:
        """The tokenizer's chat template."""
        if self._chat is None:
            self._chat = ChatFormat(self.tokenizer)
        return self._chat

    @property
    def special(self) -> SpecialTokens:
        """The tokenizer's special tokens."""
        if self._special is None:
            self._special = SpecialTokens(self.tokenizer)
        return self._special

    def encode(self, rows: Iterable[Row]) -> Iterator[list[Encoded]]:
        """Yield the tokenised pieces of each row, in order: one, several, or none if the row is skipped.

        While the pieces of some rows are used, a thread tokenises the next rows.

        Raises:
            StageError: A row cannot be encoded, or none of its tokens would be a target.
        """
        _ = self.special  # made before the thread uses the tokenizer
        with ThreadPoolExecutor(1, thread_name_prefix="tokenizer") as thread:
            before: Iterator[list[Encoded]] = iter(())
            for batch in _batches(rows):
                try:
                    following = self._begin(batch, thread)
                except StageError:
                    yield from before  # an earlier row's error comes first
                    raise
                yield from before
                before = following
            yield from before

    def _begin(self, batch: list[Row], thread: Executor) -> Iterator[list[Encoded]]:
        """Let a thread tokenise some rows, and return the iterator over their pieces."""
        if not batch[0].turns:
            return self._texts(batch, thread.submit(self._tokenize, [row.text for row in batch], special=True))
        groups = [self._render(row) for row in batch]
        texts = [text for group in groups for _, text, _ in group]
        return self._conversations(batch, groups, thread.submit(self._tokenize, texts))

    def prompt_ids(self, row: Row) -> tuple[list[int], str]:
        """Return the prompt of the last target turn, generation prompt included, and that turn's text."""
        prompt, answer = self.chat.question(row)
        if any(turn.calls for turn in row.turns):
            answer = self.special.remove(answer)  # those that mark calls: decoded answers do not have them
        return self._tokenize([prompt])[0].ids, answer

    def _tokenize(self, texts: list[str], *, special: bool = False) -> list[Any]:
        """Return the `tokenizers.Encoding` of each text.

        Args:
            texts: The texts.
            special: Whether the tokenizer adds special tokens; rendered texts contain theirs.
        """
        out = self.tokenizer(
            texts,
            add_special_tokens=special,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        return list(out.encodings)

    def _texts(self, batch: list[Row], encodings: Future[list[Any]]) -> Iterator[list[Encoded]]:
        """Yield the pieces of each text. The text ends with one EOS token."""
        for row, encoding in zip(batch, encodings.result(), strict=True):
            if (token := self.special.find_inside(row.text)) is not None:
                self.log.add(Outcome.SPECIAL_TOKENS, row.location, token)
            ids = self.special.complete(row.text, encoding.ids)
            self.log.lengths.add(len(ids))
            pieces = [ids[start : start + self.max_length] for start in range(0, len(ids), self.max_length)]
            pieces = [piece for piece in pieces if len(piece) > 1]  # the first token is never a target
            if not pieces:
                raise dataset_error(row.location, "the text is a single token", "Write a longer text")
            if len(pieces) > 1:
                self.log.add(Outcome.SPLIT, row.location)
            yield [Encoded(row, piece, [1] * len(piece)) for piece in pieces]

    def _conversations(
        self, batch: list[Row], groups: list[list[Rendered]], encodings: Future[list[Any]]
    ) -> Iterator[list[Encoded]]:
        """Yield the pieces of each conversation: one, or one for each answer if the template needs that (`_render`)."""
        tokens = iter(encodings.result())
        for original, group in zip(batch, groups, strict=True):
            self._note_special_tokens(original)
            encoded, longest = [], 0
            for row, _, spans in group:
                encoding = next(tokens)
                longest = max(longest, len(encoding))
                fitting = self._fit(Encoded(row, encoding.ids, self._mask(encoding, spans)))
                encoded += [fitting] if fitting else []
            self.log.lengths.add(longest)
            yield encoded

    def _note_special_tokens(self, row: Row) -> None:
        """Record a row whose turns contain special tokens: the tokenizer takes them as such, here and in the server."""
        for turn in row.turns:
            if (token := self.special.find(turn.text)) is not None:
                self.log.add(Outcome.SPECIAL_TOKENS, row.location, token)
                return

    def _render(self, row: Row) -> list[Rendered]:
        """Return `(row, text, target spans)` of a conversation.

        Some templates render an answer differently once other turns follow, for example without its reasoning. Then
        each answer becomes a row of its own and stands at its end, rendered as the model has to generate it.
        """
        try:
            return [(row, *self.chat.text_and_spans(row))]
        except TurnsNotSeparableError:
            targets = [index for index, turn in enumerate(row.turns) if turn.target]
            if targets == [len(row.turns) - 1]:
                raise
        before = [turn._replace(target=False) for turn in row.turns]
        rows = [replace(row, turns=(*before[:index], row.turns[index])) for index in targets]
        return [(part, *self.chat.text_and_spans(part)) for part in rows]

    def _fit(self, encoded: Encoded) -> Encoded | None:
        """Return the row, shortened if it is too long, or None if it must be skipped."""
        if len(encoded.ids) > self.max_length:
            shorter = self._shorten(encoded.row)
            if shorter is None:
                self.log.add(Outcome.SKIPPED, encoded.row.location)
                return None
            self.log.add(Outcome.TRUNCATED, encoded.row.location)
            encoded = shorter
        if not any(encoded.mask[1:]):
            raise dataset_error(
                encoded.row.location,
                "the model's chat template leaves nothing of the assistant's turns to learn",
                "Change the row's turns, or the model's chat_template.jinja",
            )
        return encoded

    def _mask(self, encoding: Any, spans: Sequence[Span]) -> list[int]:  # noqa: ANN401 - tokenizers.Encoding
        """Return the loss mask: 1 for each token that begins within a span, or for all tokens with `loss_on` all."""
        if self.loss_on == "all":
            return [1] * len(encoding)
        mask = [0] * len(encoding)
        for span in spans:
            first, end = (bisect_left(_Beginnings(encoding), place) for place in span)
            mask[first:end] = [1] * (end - first)
        return mask

    def _encode_one(self, row: Row) -> Encoded:
        text, spans = self.chat.text_and_spans(row)
        [encoding] = self._tokenize([text])
        return Encoded(row, encoding.ids, self._mask(encoding, spans))

    def _shorten(self, row: Row) -> Encoded | None:
        """Return the conversation without its oldest exchanges, or None if the last exchange alone is too long.

        Drops as few exchanges as possible and keeps the system turn.
        """
        system = [turn for turn in row.turns if turn.role == "system"]
        exchanges = split_exchanges([turn for turn in row.turns if turn.role != "system"])
        fits: Encoded | None = None
        low, high = 1, len(exchanges) - 1
        while low <= high:
            middle = (low + high) // 2
            kept = [turn for exchange in exchanges[middle:] for turn in exchange]
            encoded = None
            if any(turn.target for turn in kept):
                encoded = self._encode_one(replace(row, turns=(*system, *kept)))
            if encoded is not None and len(encoded.ids) > self.max_length:
                low = middle + 1
            else:
                fits, high = encoded, middle - 1
        return fits


def split_exchanges(turns: Sequence[Turn]) -> list[list[Turn]]:
    """Return the turns in groups. A group begins with a user turn that follows another role's turn."""
    groups: list[list[Turn]] = []
    for index, turn in enumerate(turns):
        if not groups or (turn.role == "user" and turns[index - 1].role != "user"):
            groups.append([])
        groups[-1].append(turn)
    return groups


class _Beginnings:
    """Where each token begins in its text, in ascending order, found when it is asked for: a list would take longer.

    Byte-level tokenizers that trim offsets give a white-space token an empty span at its end; it begins before that.
    """

    def __init__(self, encoding: Any) -> None:  # noqa: ANN401 - tokenizers.Encoding
        self._encoding = encoding

    def __len__(self) -> int:
        return len(self._encoding)

    def __getitem__(self, index: int) -> int:
        start, end = self._encoding.token_to_chars(index)
        return int(start) - (start == end)


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield the rows in lists that are tokenised together."""
    batch: list[Row] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += sum(map(len, row.texts))
        if len(batch) == _BATCH or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
