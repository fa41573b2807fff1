"""Whether any question of a data set has an answer."""

from __future__ import annotations

from tunesmith_trainer.data.errors import dataset_error
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.data.targets import Facts, Targets
from tunesmith_trainer.tasks.question_answering.rows import QuestionRow


class AnswerTargets(Targets):
    """Looks for a question with an answer."""

    def __init__(self) -> None:
        self._is_answered = False
        self._first = ""

    def add(self, row: Row) -> None:
        """Add a training row."""
        self._first = self._first or row.location
        self._is_answered |= isinstance(row, QuestionRow) and bool(row.answers)

    def facts(self) -> Facts:
        """Return nothing.

        Raises:
            StageError: INVALID_DATASET: no question has an answer.
        """
        if not self._is_answered:
            raise dataset_error(
                self._first,
                "answers: this question and all others have none, so there is nothing to learn",
                'Add rows with answers: "answers": {"text": ["Paris"], "answer_start": [11]}',
            )
        return {}
