"""What models are evaluated on, and the results that training leaves for publish.

While training holds a GPU, it evaluates the base model and the tuned one there; `publish` takes the results if nothing
that they depend on has changed since, and computes them itself otherwise.
"""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import digest_of_json
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.storage.files import read_json

EXAMPLES = 20
"""Answers that are generated to their end, and shown in evaluation.json."""

AS_TRAINED = "asTrained"
"""The tuned model with its base weights as training has stored them, if they are quantized."""

TITLES = {
    "before": "evaluating the base model",
    "after": "evaluating the tuned model",
    AS_TRAINED: "evaluating the tuned model beside quantized weights",
}
"""What is done, for people, by which model is evaluated."""


def evaluation_rows(work: WorkFolder) -> TokenStore:
    """Return the validation rows; the training rows if none were held out."""
    data = work.stage(Stage.PREPARE) / "data"
    store = TokenStore.open(data / "validation")
    return store if len(store) else TokenStore.open(data / "train")


def evaluated_rows(config: JobConfig, store: Sized) -> int:
    """Return the number of rows that are evaluated."""
    return min(config.spec.evaluation.max_rows, len(store))


def evaluation_file(work: WorkFolder) -> Path:
    """Return the file with the validation prompts."""
    return work.stage(Stage.PREPARE) / "data" / "evaluation.jsonl"


def trained_evaluation_file(work: WorkFolder) -> Path:
    """Return the file with the results that training leaves for publish."""
    return work.stage(Stage.TRAIN) / "evaluation.json"


def evaluation_inputs(config: JobConfig, work: WorkFolder, final: str) -> str:
    """Return the digest of what the results depend on.

    Args:
        config: The job.
        work: The work folder.
        final: Digest of the trained weights.
    """
    prepared = read_json(work.stage_marker(Stage.PREPARE))
    return digest_of_json({"evaluation": config.spec.evaluation.result_fields, "prepared": prepared, "final": final})


def read_trained_evaluation(config: JobConfig, work: WorkFolder) -> dict[str, Any]:
    """Return the valid results that training has left for publish, by the names in `TITLES`; {} if there are none."""
    found: dict[str, Any] | None = read_json(trained_evaluation_file(work))
    final = (read_json(work.stage_marker(Stage.TRAIN)) or {}).get("final")
    if found is None or final is None or found.get("inputs") != evaluation_inputs(config, work, final):
        return {}
    return {when: found[when] for when in TITLES if when in found}
