"""The task's metrics on the served bits: what the server's code answers to the validation rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith_api.artifact import onnx_folder
from tunesmith_api.spec import Precision
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate.one_pass import OutputsOf
from tunesmith_trainer.export.one_pass.served import Asked, served_answers
from tunesmith_trainer.tasks.sequence_classification.evaluate import RowResults, names_in_order
from tunesmith_trainer.tasks.sequence_classification.prompts import LabelPrompt
from tunesmith_trainer.tasks.sequence_classification.scores import Scores, scores_of

_PARAMETERS: Mapping[str, Any] = {"top_k": None}
"""With these a server answers with the scores of all classes."""


def asked_of(prompts: Sequence[LabelPrompt], store: TokenStore) -> list[Asked]:
    """Return what a server is asked about rows, with the tokens that training has made of them."""
    return [Asked(prompt.row, prompt.location, prompt.inputs, store[prompt.row][0].tolist()) for prompt in prompts]


def evaluate_served_labels(
    artifact: Path,
    precision: Precision,
    store: TokenStore,
    prompts: Sequence[LabelPrompt],
    outputs: OutputsOf,
    *,
    rows: int,
    advance: Callable[[int], None],
) -> dict[str, Any]:
    """Evaluate the server's answers.

    Args:
        artifact: An artifact folder with the export.
        precision: The export.
        store: The validation rows, a `LabelledStore`.
        prompts: The rows that are asked about; if there are none, the exported model computes those of the store.
        outputs: Returns what the exported model computes for rows.
        rows: Number of rows, from the first, that are evaluated.
        advance: Called with the number of rows just answered.

    Returns:
        As `evaluate.evaluate_labels`, but for `computedIn`.

    Raises:
        StageError: PARITY_FAILED if the server refuses a row.
    """
    config = json.loads((artifact / onnx_folder(precision.value) / "config.json").read_bytes())
    problem, labels = config["problem_type"], names_in_order(config["id2label"])
    results = RowResults(store, rows, problem, labels)
    if prompts:
        places = {label: place for place, label in enumerate(labels)}
        asked = asked_of(prompts[:rows], store)
        for one, answer in zip(asked, served_answers(artifact, precision, asked, _PARAMETERS, advance), strict=True):
            results.add(one.row, _scores(answer, places))
    else:
        for index, (logits,) in outputs([store[index][0].tolist() for index in range(rows)]):
            results.add(index, scores_of(logits, problem))
            advance(1)
    found = results.summary()
    return {**found, "answers": found["answers"] if prompts else []}


def _scores(answer: Sequence[Mapping[str, Any]], places: Mapping[str, int]) -> Scores:
    """Return the score of each class, float64 [classes].

    Args:
        answer: `{label, score}` of each class.
        places: The number of each class.
    """
    found = np.zeros(len(places))
    for entry in answer:
        found[places[entry["label"]]] = entry["score"]
    return found
