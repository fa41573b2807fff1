"""Evaluation of the base model and of the tuned one, and the files that show it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
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
from tunesmith_trainer.tasks.base import Task, ValidationSet
from tunesmith_trainer.tasks.registry import task_for

log = logging.getLogger(__name__)


def evaluate_both(
    config: JobConfig,
    folder: Path,
    data: ValidationSet,
    models: Mapping[str, Callable[[], Any]],
    progress: Progress,
    answering: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Evaluate the base model and the tuned one, and write evaluation.json.

    What training has evaluated on its GPU is taken from there.

    Args:
        config: The job.
        folder: The stage's folder.
        data: The validation rows and prompts.
        models: `before` and `after`: functions that return the model.
        progress: Where progress is shown.
        answering: The precision whose export answers later for the tuned model; None if it answers itself.

    Returns:
        The evaluation of each model: `{metrics, answers, cut?, computedIn, computedOn}`, and `reference` where those
        of other models need it. There are no answers of the tuned model if an export answers for it.
    """
    results: dict[str, dict[str, Any]] = {}
    trained = read_trained_evaluation(config, progress.work)
    for when, model in models.items():
        path = folder / f"evaluation-{when}.json"
        known = replace(data, before=results.get("before", {}).get("reference"))
        asked = known if answering is None or when == "before" else replace(known, prompts=())
        found = read_json(path)
        if found is None or (asked.prompts and not found.get("isAsked", True)):
            found = trained.get(when) or evaluate_model(config, model(), asked, progress, when)
            log.info("%s training: %s", when, format_numbers(found["metrics"]))
            found = {**found, "isAsked": bool(asked.prompts) or not data.prompts}
            write_json(path, found)
        results[when] = found
    write_evaluation(config, folder, data, results)
    return results


def write_evaluation(
    config: JobConfig, folder: Path, data: ValidationSet, results: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write evaluation.json.

    Args:
        config: The job.
        folder: The stage's folder.
        data: The validation rows and prompts.
        results: What `evaluate_both` returns, with or without the tuned model's answers, and the evaluation of the
            model as it was trained if that is another one.
    """
    before, after = results["before"], results["after"]
    task = task_for(config.spec)
    shown = [index for index in task.shown_first(after) if index < min(len(data.prompts), len(before["answers"]))]
    evaluation = {
        **{when: result["metrics"] for when, result in results.items()},
        "computedIn": {when: result.get("computedIn", "float32") for when, result in results.items()},
        "computedOn": {when: result["computedOn"] for when, result in results.items()},
        **({"answeredBy": after["answeredBy"]} if "answeredBy" in after else {}),
        "rows": evaluated_rows(config, data.store),
        "questions": len(data.prompts),
        **task.evaluation_fields(results),
        "examples": [
            {
                "prompt": task.shown_prompt(data.prompts[index], data.tokenizer),
                "reference": data.prompts[index].reference,
                "before": before["answers"][index],
                "after": after["answers"][index],
            }
            for index in shown[:EXAMPLES]
        ],
    }
    write_json(folder / "evaluation.json", evaluation)


def evaluate_model(
    config: JobConfig,
    model: Any,  # noqa: ANN401
    data: ValidationSet,
    progress: Progress,
    when: str,
) -> dict[str, Any]:
    """Return the evaluation of a model.

    Args:
        config: The job.
        model: The model.
        data: The validation rows and prompts.
        progress: Where progress is shown.
        when: Which model it is, as in `TITLES`.
    """
    rows = evaluated_rows(config, data.store)
    with progress.track(TITLES[when], rows + len(data.prompts)) as advance:
        task = task_for(config.spec)
        result = task.evaluate(model, data, config.spec, rows=rows, examples=EXAMPLES, advance=advance)
    return {**result, "computedOn": model.device.type}


def write_predictions(
    task: Task,
    folder: Path,
    data: ValidationSet,
    models: Mapping[str, Mapping[str, Any]],
    served: Mapping[str, Mapping[str, Any]],
) -> Path | None:
    """Write predictions.jsonl: each validation prompt with all models' answers.

    A line is `{row, location, prompt, reference, before, after, served: {precision: answer}, cut}`. `cut` lists the
    models whose answer is not complete: generation stopped because it could no longer equal the reference.

    Args:
        task: The job's task.
        folder: The stage's folder.
        data: The validation prompts.
        models: The evaluations before and after training.
        served: The evaluation of each precision.

    Returns:
        The file; None if no answers are compared.
    """
    if not data.prompts or not all(result.get("answers") for result in models.values()):
        return None
    lines = []
    for index, prompt in enumerate(data.prompts):
        line = {
            "row": prompt.row,
            "location": prompt.location.rsplit("/", 1)[-1],  # not the folder, which differs between machines
            "prompt": task.shown_prompt(prompt, data.tokenizer),
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
