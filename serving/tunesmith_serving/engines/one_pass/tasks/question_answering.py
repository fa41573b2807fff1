"""Answers to questions, found in a context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from tunesmith_serving.engines.one_pass.batching.rows import Outputs, Row
from tunesmith_serving.engines.one_pass.tasks.base import OnePassTask, Prepared, TaskParameters, kind_of, text_in
from tunesmith_serving.engines.one_pass.tasks.spans import Span, Window, best_spans
from tunesmith_serving.engines.one_pass.text.pieces import framed
from tunesmith_serving.engines.predictor import InvalidInputError

LARGEST_STRIDE = 128

Positive = Annotated[int, Field(ge=1)]


class QuestionParameters(TaskParameters):
    """Parameters of Hugging Face's question-answering task.

    Attributes:
        top_k: The most answers; with more than 1 the answer is a list.
        max_answer_len: The most tokens of an answer; 30, as the official evaluation of SQuAD has it.
        handle_impossible_answer: Whether the context may hold no answer; the answer is then empty.
        align_to_words: Whether an answer that begins or ends within a word gets the whole word.
        doc_stride: Tokens that two windows of a long context share; by default those of training.
        max_seq_len: The most tokens of a window.
        max_question_len: The most tokens of the question, which is cut off there.
    """

    top_k: Positive = 1
    max_answer_len: Positive = 30
    handle_impossible_answer: bool = False
    align_to_words: bool = False
    doc_stride: Annotated[int, Field(ge=0)] | None = None
    max_seq_len: Positive | None = None
    max_question_len: Positive | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Where a window has the context.

    Attributes:
        encoding: The window's encoding.
        begin: Its first token of the context.
        offsets: Characters of the context's tokens.
    """

    encoding: Any
    begin: int
    offsets: Sequence[tuple[int, int]]


class QuestionAnswering(OnePassTask):
    """The task."""

    outputs = ("start_logits", "end_logits")
    per_token = True
    parameters = QuestionParameters

    def prepare(self, value: Any, parameters: QuestionParameters) -> Prepared:  # noqa: ANN401
        """Return the windows of `{"question", "context"}`, which overlap, as in training."""
        question, context = _fields(value)
        question = self._shortened(question.strip(), parameters.max_question_len)
        length, stride = self._window(parameters)
        asked = len(self.tokenizer.encode(question).ids) - self.tokenizer.added
        if asked + self.tokenizer.added_to_pair + stride + 1 > length:
            raise InvalidInputError(
                f"has {asked} tokens, which leaves no room for the context in windows of {length} tokens that share "
                f"{stride}; shorten it, or set max_question_len",
                "question",
            )
        encoding = self.tokenizer.encode(question, context, length=length, stride=stride, strategy="only_second")
        rows, parts = [], []
        for window in (encoding, *encoding.overflowing):
            begin, end = framed(window, 1)
            if begin == end:
                raise InvalidInputError("has no tokens; write a text", "context")
            rows.append(Row(window.ids, _types(window.ids)))
            parts.append(Part(window, begin, window.offsets[begin:end]))
        return Prepared(rows, context, parts)

    def answer(self, prepared: Prepared, outputs: Sequence[Outputs], parameters: QuestionParameters) -> Any:  # noqa: ANN401
        """Return `{answer, score, start, end}`; with top_k above 1 a list of them, the likeliest first."""
        windows = [
            Window(output["start_logits"], output["end_logits"], part.begin, part.offsets)
            for part, output in zip(prepared.parts, outputs, strict=True)
        ]
        spans, impossible = best_spans(windows, parameters.top_k, parameters.max_answer_len)
        found = [self._answer(prepared, span, parameters.align_to_words) for span in spans]
        if parameters.handle_impossible_answer:
            found.append({"answer": "", "score": impossible, "start": 0, "end": 0})
            found.sort(key=lambda one: -one["score"])  # of equal ones the answer stays before none
        return found[0] if parameters.top_k == 1 else found[: parameters.top_k]

    @property
    def example(self) -> Any:  # noqa: ANN401
        """An input for the warm-up."""
        return {"question": "a", "context": "a"}

    def _window(self, parameters: QuestionParameters) -> tuple[int, int]:
        """Return the most tokens of a window, and how many two of them share."""
        most = self.served.max_length
        length = parameters.max_seq_len or most
        if length > most:
            raise InvalidInputError(f"must be at most {most} for this model", "parameters", "max_seq_len")
        if parameters.doc_stride is not None:
            return length, parameters.doc_stride
        return length, self.served.stride if length == most else min(LARGEST_STRIDE, length // 4)

    def _shortened(self, question: str, most: int | None) -> str:
        encoding = self.tokenizer.encode(question)
        begin, end = framed(encoding)
        if begin == end:
            raise InvalidInputError("has no tokens; write a question", "question")
        return question if most is None or end - begin <= most else question[: encoding.offsets[begin + most - 1][1]]

    def _answer(self, prepared: Prepared, span: Span, align: bool) -> dict[str, Any]:
        start, end = span.start, span.end
        if align:
            encoding = prepared.parts[span.window].encoding
            words = [encoding.token_to_word(token) for token in (span.first, span.last)]
            if None not in words:
                start, end = encoding.word_to_chars(words[0], 1)[0], encoding.word_to_chars(words[1], 1)[1]
        text = prepared.text[start:end]
        start += len(text) - len(text.lstrip())
        text = text.strip()
        return {"answer": text, "score": span.score, "start": start, "end": start + len(text)}


def _types(ids: Sequence[int]) -> list[int]:
    """Return 1 for the tokens of the context: those after the first separator, which is a window's last token too."""
    begin = list(ids).index(ids[-1]) + 1
    return [0] * begin + [1] * (len(ids) - begin)


def _fields(value: object) -> tuple[str, str]:
    if not isinstance(value, dict):
        raise InvalidInputError(f'must be {{"question", "context"}}, not {kind_of(value)}')
    if unknown := sorted(set(value) - {"question", "context"}):
        raise InvalidInputError("an input has question and context only", str(unknown[0]))
    question, context = (text_in(value.get(name), name) for name in ("question", "context"))
    if not context.strip():
        raise InvalidInputError("is empty; write the text that holds the answer", "context")
    return question, context
