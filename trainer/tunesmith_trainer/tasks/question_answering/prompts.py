"""What is kept of validation questions besides their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_trainer.data.documents import document_line, read_documents
from tunesmith_trainer.data.encode import Encoded
from tunesmith_trainer.tasks.question_answering.encoder import Offsets, Window
from tunesmith_trainer.tasks.question_answering.rows import QuestionRow


@dataclass(frozen=True)
class QuestionPrompt:
    """A validation question.

    Attributes:
        row: Index of its first window in the store.
        location: File and line.
        prompt_ids: Tokens of its first window.
        question: The question.
        context: The context.
        answers: The right answers; none if there is no answer.
        offsets: Of each window, the characters of its tokens of the context.
    """

    row: int
    location: str
    prompt_ids: list[int]
    question: str
    context: str
    answers: Sequence[str]
    offsets: Sequence[Offsets]

    @property
    def pieces(self) -> int:
        """Number of its windows."""
        return len(self.offsets)

    @property
    def reference(self) -> str:
        """The first right answer; empty if there is none."""
        return self.answers[0] if self.answers else ""


def evaluation_line(piece: Encoded, index: int, is_first_piece: bool) -> dict[str, Any]:
    """Return the line of evaluation.jsonl of a window."""
    row, told = piece.row, {}
    if is_first_piece and isinstance(row, QuestionRow):
        answers = [answer.text for answer in row.answers]
        told = {"question": row.query, "context": row.context, "answers": answers}
    offsets = [place for span in piece.offsets for place in span] if isinstance(piece, Window) else []
    return document_line(piece, index, is_first_piece, told, {"offsets": offsets})


def read_question_prompts(path: Path, limit: int) -> list[QuestionPrompt]:
    """Return the first validation questions."""
    prompts = []
    for lines in read_documents(path, limit):
        first = lines[0]
        offsets = [list(zip(line["offsets"][::2], line["offsets"][1::2], strict=True)) for line in lines]
        prompts.append(
            QuestionPrompt(
                first["row"],
                first["location"],
                first["prompt_ids"],
                first["question"],
                first["context"],
                first["answers"],
                offsets,
            )
        )
    return prompts
