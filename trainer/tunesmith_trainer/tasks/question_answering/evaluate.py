"""Evaluation of a model on the validation questions; the windows of a question are put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate.log_softmax import log_softmax
from tunesmith_trainer.evaluate.one_pass import OutputsOf
from tunesmith_trainer.tasks.question_answering.metrics import answer_metrics, answer_table
from tunesmith_trainer.tasks.question_answering.prompts import QuestionPrompt
from tunesmith_trainer.tasks.question_answering.spans import Logits, WindowLogits, best_answer


def evaluate_answers(
    outputs: OutputsOf,
    store: TokenStore,
    prompts: Sequence[QuestionPrompt],
    *,
    may_have_none: bool,
    rows: int,
    advance: Callable[[int], None],
) -> dict[str, Any]:
    """Evaluate a model.

    Args:
        outputs: Returns what the model computes for rows.
        store: The windows of the validation questions, a `LabelledStore`.
        prompts: The questions that are evaluated; if there are none, only the loss of the first windows is computed.
        may_have_none: Whether the model may say that there is no answer.
        rows: Number of windows, from the first, of which progress is told.
        advance: Called with the number of these that are just finished.

    Returns:
        `{metrics, answers, byAnswer}`; `byAnswer` is the table of `answer_table`.
    """
    pieces = [index for prompt in prompts for index in range(prompt.row, prompt.row + prompt.pieces)]
    pieces = pieces or list(range(rows))
    found: dict[int, tuple[Logits, Logits, int]] = {}
    total = 0.0
    tokens = [store[index][0].tolist() for index in pieces]
    for slot, (start, end) in outputs(tokens):
        index = pieces[slot]
        _, _, targets = store[index]  # type: ignore[misc]
        first, last, begin = (int(number) for number in targets[:3])
        total -= float(log_softmax(start)[first] + log_softmax(end)[last]) / 2
        found[index] = (np.asarray(start), np.asarray(end), begin)
        if index < rows:
            advance(1)
    answers = []
    for prompt in prompts:
        windows = [WindowLogits(*found[prompt.row + part], offsets) for part, offsets in enumerate(prompt.offsets)]
        answers.append(best_answer(prompt.context, windows, may_have_none=may_have_none))
    right = [prompt.answers for prompt in prompts]
    return {
        "metrics": {"evalLoss": total / len(pieces) if pieces else None, **answer_metrics(answers, right)},
        "byAnswer": answer_table(answers, right),
        "answers": answers,
    }
