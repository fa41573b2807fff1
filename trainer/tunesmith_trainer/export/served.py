"""The task's metrics on the served bits: the loss on the exported model, the answers by the server's engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith_api.artifact import onnx_folder
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import Precision
from tunesmith_trainer.data.token_store import Example, TokenStore
from tunesmith_trainer.evaluate.evaluation import answer_limits, metrics_of
from tunesmith_trainer.evaluate.prompts import EvalPrompt
from tunesmith_trainer.evaluate.scores import Scores
from tunesmith_trainer.export.onnx_runner import OnnxModel
from tunesmith_trainer.export.parity import losses
from tunesmith_trainer.export.replay import replay

Advance = Callable[[int], None]


def evaluate_served(
    artifact: Path,
    precision: Precision,
    tokenizer: Any,  # noqa: ANN401 - a transformers tokenizer
    store: TokenStore,
    prompts: Sequence[EvalPrompt],
    *,
    rows: int,
    max_new_tokens: int,
    examples: int,
    advance: Advance,
) -> dict[str, Any]:
    """Evaluate an exported model as it is served.

    Args:
        artifact: An artifact folder with the export.
        precision: The export.
        tokenizer: The model's tokenizer, for the lengths of the references.
        store: The validation rows.
        prompts: Prompts and references made from these rows; may be empty.
        rows: Number of rows, from the first, that the loss is computed on.
        max_new_tokens: Most tokens of an answer.
        examples: Number of answers, from the first, that metrics of whole answers are computed of.
        advance: Called with the number of rows or prompts just finished; `rows + len(prompts)` in total.

    Returns:
        `{metrics, answers: [...]}`; the metrics are those of `metrics_of`.

    Raises:
        StageError: PARITY_FAILED if the server refuses a prompt; EXPORT_FAILED if it cannot answer.
    """
    folder = artifact / onnx_folder(precision.value)
    scores = onnx_scores(OnnxModel(folder), lambda index: store[index], rows, advance)
    answers = served_answers(artifact, precision, tokenizer, prompts, max_new_tokens, advance)
    return {"metrics": metrics_of(scores, answers, prompts, examples), "answers": answers}


def served_answers(
    artifact: Path,
    precision: Precision,
    tokenizer: Any,  # noqa: ANN401 - a transformers tokenizer
    prompts: Sequence[EvalPrompt],
    max_new_tokens: int,
    advance: Advance,
) -> list[str]:
    """Return the server's answers to prompts; see `evaluate_served`.

    Raises:
        StageError: PARITY_FAILED if the server refuses a prompt; EXPORT_FAILED if it cannot answer.
    """
    folder = artifact / onnx_folder(precision.value)
    context = int(json.loads((folder / "genai_config.json").read_bytes())["model"]["context_length"])
    limits = answer_limits(tokenizer, prompts, max_new_tokens, context)
    # Answers as torch gives them: greedy, as far as they can matter, and none to a prompt that fills the context.
    asked = [index for index, limit in enumerate(limits) if limit]
    requests = [{**prompts[index].request, "max_tokens": limits[index], "temperature": 0} for index in asked]
    answers = [""] * len(prompts)
    advance(len(prompts) - len(asked))
    found = replay(artifact, precision, requests, generate=True, advance=advance)
    for index, answer in zip(asked, found, strict=True):
        if "error" in answer:
            raise StageError(
                Reason.PARITY_FAILED,
                f"{prompts[index].location or f'validation row {prompts[index].row}'}: the server does not answer with "
                f"the {precision.value} export: {answer['error']}",
                "Use another precision in export.precisions",
            )
        answers[index] = answer["text"]
    return answers


def onnx_scores(exported: OnnxModel, row: Callable[[int], Example], rows: int, advance: Advance) -> Scores:
    """Return the scores of rows.

    Args:
        exported: The exported model.
        row: Returns the ids and the mask of a row.
        rows: Number of rows.
        advance: Called with the number of rows just done.
    """
    scores = Scores.empty(rows)
    for index in range(rows):
        tokens, mask = row(index)
        for positions, logits in exported.chunks(tokens.tolist(), np.flatnonzero(mask[1:]).tolist()):
            wanted = tokens[positions + 1].astype(np.int64)
            scores.losses[index] += float(losses(logits, wanted).sum())
            scores.predicted[index] += int((logits.argmax(-1) == wanted).sum())
            scores.targets[index] += len(positions)
        advance(1)
    return scores
