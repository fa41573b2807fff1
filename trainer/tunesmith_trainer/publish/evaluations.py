"""Evaluation of the base model and of the tuned one, and the files that show it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tunesmith_api.spec import JobConfig
from tunesmith_trainer.evaluate.validation import (
    EXAMPLES,
    TITLES,
    evaluated_rows,
    read_trained_evaluation,
)
from tunesmith_trainer.publish.progress import Progress
from tunesmith_trainer.storage.files import read_json, write_atomic, write_json
from tunesmith_trainer.tasks.base import ValidationSet
from tunesmith_trainer.tasks.registry import task_of

log = logging.getLogger(__name__)


def evaluate_both(
    config: JobConfig,
    folder: Path,
    data: ValidationSet,
    models: Mapping[str, Callable[[], Any]],
    progress: Progress,
) -> dict[str, Any]:
    """Evaluate the base model and the tuned one, write evaluation.json and return its content.

    What training has evaluated on its GPU is taken from there.

    Args:
        config: The job.
        folder: The stage's folder.
        data: The validation rows and prompts.
        models: `before` and `after`: functions that return the model.
        progress: Where progress is shown.
    """
    evaluation: dict[str, Any] | None = read_json(folder / "evaluation.json")
    if evaluation is not None:
        return evaluation
    results: dict[str, Any] = {}
    trained = read_trained_evaluation(config, progress.work)
    for when, model in models.items():
        path = folder / f"evaluation-{when}.json"
        results[when] = read_json(path)
        if results[when] is None:
            results[when] = trained.get(when) or _evaluate(config, model(), data, progress, when)
            log.info("%s training: %s", when, format_numbers(results[when]["metrics"]))
            write_json(path, results[when])
    answers = zip(results["before"]["answers"], results["after"]["answers"], strict=True)
    evaluation = {
        "before": results["before"]["metrics"],
        "after": results["after"]["metrics"],
        "computedIn": {when: result.get("computedIn", "float32") for when, result in results.items()},
        "computedOn": {when: result["computedOn"] for when, result in results.items()},
        "rows": evaluated_rows(config, data.store),
        "questions": len(data.prompts),
        "examples": [
            {
                "prompt": data.tokenizer.decode(prompt.prompt_ids),
                "reference": prompt.reference,
                "before": before,
                "after": after,
            }
            for prompt, (before, after) in zip(data.prompts[:EXAMPLES], answers, strict=False)
        ],
    }
    write_json(folder / "evaluation.json", evaluation)
    return evaluation


def _evaluate(config: JobConfig, model: Any, data: ValidationSet, progress: Progress, when: str) -> dict[str, Any]:  # noqa: ANN401
    rows = evaluated_rows(config, data.store)
    with progress.track(TITLES[when], rows + len(data.prompts)) as advance:
        task = task_of(config.spec.task)
        result = task.evaluate(model, data, config.spec, rows=rows, examples=EXAMPLES, advance=advance)
    return {**result, "computedOn": model.device.type}


def write_predictions(folder: Path, data: ValidationSet, served: Mapping[str, Mapping[str, Any]]) -> Path | None:
    """Write predictions.jsonl: each validation prompt with all models' answers.

    A line is `{row, location, prompt, reference, before, after, served: {precision: answer}, cut}`. `cut` lists the
    models whose answer is not complete: generation stopped because it could no longer equal the reference.

    Args:
        folder: The stage's folder, with the evaluations before and after training.
        data: The validation prompts.
        served: The evaluation of each precision.

    Returns:
        The file; None if no answers are compared.
    """
    models = {when: read_json(folder / f"evaluation-{when}.json") or {} for when in ("before", "after")}
    if not data.prompts or not all(result.get("answers") for result in models.values()):
        return None
    lines = []
    for index, prompt in enumerate(data.prompts):
        line = {
            "row": prompt.row,
            "location": prompt.location.rsplit("/", 1)[-1],  # not the folder, which differs between machines
            "prompt": data.tokenizer.decode(prompt.prompt_ids),
            "reference": prompt.reference,
            **{when: result["answers"][index] for when, result in models.items()},
            "served": {precision: result["answers"][index] for precision, result in served.items()},
            "cut": [when for when, result in models.items() if result.get("cut") and result["cut"][index]],
        }
        lines.append(json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
    path = folder / "predictions.jsonl"
    write_atomic(path, b"".join(lines))
    return path


def format_numbers(numbers: Mapping[str, float | int | None]) -> str:
    """Return numbers with their names, for the log."""
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers.items() if value is not None)
