"""Evaluates the model that was trained, where its base weights were quantized, beside the one that is published."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith_api.spec import JobConfig
from tunesmith_trainer.evaluate.validation import AS_TRAINED, read_trained_evaluation
from tunesmith_trainer.publish.evaluations import evaluate_model, format_numbers
from tunesmith_trainer.publish.progress import Progress
from tunesmith_trainer.storage.files import read_json, write_json
from tunesmith_trainer.tasks.base import ValidationSet

log = logging.getLogger(__name__)

_TOLD = 0.01
"""A larger increase of the perplexity by merging, as a part of it, is told.

Rounding to 16 bits can cause one where a short training has changed the weights by little.
"""


def evaluate_as_trained(
    config: JobConfig, folder: Path, data: ValidationSet, load: Callable[[], Any], progress: Progress
) -> dict[str, Any]:
    """Return the evaluation of the model that was trained, without answers.

    What training has evaluated on its GPU is taken from there.

    Args:
        config: The job.
        folder: The stage's folder.
        data: The validation rows.
        load: Returns the model.
        progress: Where progress is shown.
    """
    path = folder / "evaluation-as-trained.json"
    found: dict[str, Any] | None = read_json(path)
    if found is None:
        found = read_trained_evaluation(config, progress.work).get(AS_TRAINED)
        found = found or evaluate_model(config, load(), replace(data, prompts=()), progress, AS_TRAINED)
        metrics = {name: value for name, value in found["metrics"].items() if value is not None}  # none of answers
        found = {**found, "metrics": metrics}
        log.info("as trained, beside quantized weights: %s", format_numbers(found["metrics"]))
        write_json(path, found)
    return found


def compared(trained: Mapping[str, Any], merged: Mapping[str, Any]) -> dict[str, float | None]:
    """Return `{trainedPerplexity, mergedPerplexity}`, and warn if merging has made the model worse than usual.

    Nothing is returned for a task that has no perplexity.

    Args:
        trained: The evaluation of the model that was trained.
        merged: That of the one that is published.
    """
    if "perplexity" not in merged["metrics"]:
        return {}
    before, after = (evaluation["metrics"].get("perplexity") for evaluation in (trained, merged))
    if before and after and after > before * (1 + _TOLD):
        log.warning(
            "the merged model has the perplexity %.4g, the model that was trained %.4g; "
            "train for more steps, or give the base model in fp32, whose weights are merged without rounding",
            after,
            before,
        )
    return {"trainedPerplexity": before, "mergedPerplexity": after}
