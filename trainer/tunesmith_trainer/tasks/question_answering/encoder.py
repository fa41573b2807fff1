"""Tokenises questions with their contexts. A long context becomes several windows, which overlap."""

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
from tunesmith_trainer.tasks.question_answering.rows import QuestionRow

_BATCH = 64
_STRIDE = 128

Offsets = Sequence[tuple[int, int]]


def stride_of(max_length: int) -> int:
    """Return how many tokens of the context two neighbouring windows share: 128, or a quarter of short windows.

    Args:
        max_length: Largest number of tokens of a window.
    """
    return min(_STRIDE, max_length // 4)


@dataclass(frozen=True)
class Window(Encoded):
    """The question with a part of the context.

    `targets` are the first and last token of the answer, both 0 (the first token of the window) if it is not in this
    part, and the first token of the context and the one after its last.

    Attributes:
        offsets: First character in the context of each of its tokens, and the one after the last.
    """

    offsets: Offsets = ()


@dataclass
class QuestionEncoder:
    """Tokenises rows.

    Attributes:
        tokenizer: The model's tokenizer (transformers, fast).
        max_length: Largest number of tokens of a window.
        log: Filled while rows are encoded.
        stride: Tokens of the context that two neighbouring windows share.
    """

    tokenizer: Any
    max_length: int
    log: EncodingLog = field(default_factory=EncodingLog)

    def __post_init__(self) -> None:
        self.stride = stride_of(self.max_length)
        self._special = SpecialTokens(self.tokenizer)
        self._added = int(self.tokenizer.num_special_tokens_to_add(pair=True))

    def encode(self, rows: Iterable[Row]) -> Iterator[list[Encoded]]:
        """Yield the windows of each row, in order; none of a row whose answer is longer than what windows share.

        Raises:
            StageError: INVALID_DATASET: a row cannot be encoded.
        """
        remaining = (row for row in rows if isinstance(row, QuestionRow))
        while batch := list(islice(remaining, _BATCH)):
            questions = [row.query.strip() for row in batch]
            self._check_lengths(batch, questions)
            found = self.tokenizer(
                questions,
                [row.context for row in batch],
                truncation="only_second",
                max_length=self.max_length,
                stride=self.stride,
                return_overflowing_tokens=True,
                return_attention_mask=False,
                verbose=False,
            )
            windows: list[list[Any]] = [[] for _ in batch]
            for encoding, index in zip(found.encodings, found["overflow_to_sample_mapping"], strict=True):
                windows[index].append(encoding)
            for row, encodings in zip(batch, windows, strict=True):
                yield self._windows(row, encodings)

    def _check_lengths(self, batch: Sequence[QuestionRow], questions: list[str]) -> None:
        """Fail if a question leaves no room for new tokens of the context in each window.

        Raises:
            StageError: INVALID_DATASET.
        """
        tokens = self.tokenizer(questions, add_special_tokens=False, return_attention_mask=False, verbose=False)
        for row, ids in zip(batch, tokens["input_ids"], strict=True):
            least = len(ids) + self._added + self.stride + 1
            if least > self.max_length:
                raise dataset_error(
                    row.location,
                    f"question has {len(ids)} tokens; with {self._added} special tokens and the {self.stride} that "
                    f"windows share, spec.training.maxLength {self.max_length} leaves no room for the context",
                    f"Shorten the question, or write maxLength: {_long_enough(len(ids) + self._added)} or more",
                )

    def _windows(self, row: QuestionRow, encodings: Sequence[Any]) -> list[Encoded]:
        if (token := self._special.find(row.query) or self._special.find(row.context)) is not None:
            self.log.add(Outcome.SPECIAL_TOKENS, row.location, token)
        found: list[Encoded] = []
        length = has_answer = 0
        for encoding in encodings:
            places = [index for index, sequence in enumerate(encoding.sequence_ids) if sequence == 1]
            if not places:
                raise dataset_error(
                    row.location, "context: the tokenizer leaves nothing of it", "Remove the row, or write words"
                )
            begin, end = places[0], places[-1] + 1
            offsets = encoding.offsets[begin:end]
            first, last = answer_tokens(row, offsets) or (-begin, -begin)
            has_answer += first >= 0
            targets = (begin + first, begin + last, begin, end)
            found.append(Window(row, encoding.ids, [1] * len(encoding.ids), targets, offsets))
            length += len(encoding.ids) if not length else end - begin - self.stride
        self.log.lengths.add(length)
        if row.answers and not has_answer:
            self.log.add(Outcome.SKIPPED, row.location, "no window holds the whole answer")
            return []
        if len(found) > 1:
            self.log.add(Outcome.SPLIT, row.location)
        return found


def _long_enough(fixed: int) -> int:
    """Return the least length of a window whose question, with special tokens, has a number of tokens."""
    length = fixed + 2
    while length < fixed + stride_of(length) + 1:
        length += 1
    return length


def answer_tokens(row: QuestionRow, offsets: Offsets) -> tuple[int, int] | None:
    """Return the first and the last token of a row's first answer; None if these tokens do not hold the whole of it.

    Args:
        row: The row.
        offsets: Characters of the tokens of a part of its context.
    """
    if not row.answers:
        return None
    answer = row.answers[0]
    start = answer.start + len(answer.text) - len(answer.text.lstrip())
    end = start + len(answer.text.strip())
    if offsets[0][0] > start or offsets[-1][1] < end:
        return None
    inside = [index for index, (begin, stop) in enumerate(offsets) if begin < end and stop > start]
    return (inside[0], inside[-1]) if inside else None
