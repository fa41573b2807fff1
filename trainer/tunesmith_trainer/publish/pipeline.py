"""The steps of the publish stage. Each leaves a file or folder that is whole or absent, and is then not repeated."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import MANIFEST, onnx_folder
from tunesmith_api.spec import JobConfig, Precision
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.data.report import REPORT
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.methods.base import MergeInputs
from tunesmith_trainer.methods.registry import method_of
from tunesmith_trainer.models.location import model_path
from tunesmith_trainer.models.tokenizer import load_tokenizer
from tunesmith_trainer.publish.artifact import assemble, describe
from tunesmith_trainer.publish.deliver import deliver, output_uri
from tunesmith_trainer.publish.gates import check_gates, require_passed
from tunesmith_trainer.publish.progress import Progress
from tunesmith_trainer.storage.files import read_json, write_json
from tunesmith_trainer.tasks.base import ValidationSet
from tunesmith_trainer.tasks.registry import task_of

log = logging.getLogger(__name__)

_CHECKED_ROWS = 4  # rows on which merged and adapted logits are compared
_EXAMPLES = 20  # answers that evaluation.json shows


def run(config: JobConfig, work: WorkFolder) -> dict[str, Any]:
    """Run the stage (see `tunesmith_trainer.publish.publish`)."""
    folder = work.stage(Stage.PUBLISH)
    artifact = folder / "artifact"
    progress = Progress(work)
    manifest = read_json(artifact / MANIFEST)
    if manifest is None:
        manifest = _build(config, work, artifact, progress)
    uri = output_uri(config, work)
    progress.step(f"writing the artifact to {uri}")

    def report(done: int, total: int | None) -> None:
        progress.tell(f"uploading {done / 1e6:.0f}/{(total or done) / 1e6:.0f} MB")

    written = deliver(artifact, manifest["digest"], uri, report)
    return {
        "artifact": {"uri": written, "digest": manifest["digest"]},
        "metrics": manifest["metrics"],
        "gates": manifest["gates"],
        "parity": manifest["parity"],
    }


def _build(config: JobConfig, work: WorkFolder, artifact: Path, progress: Progress) -> dict[str, Any]:
    """Do all steps up to the assembled artifact and return its manifest."""
    folder = work.stage(Stage.PUBLISH)
    base = model_path(work)
    task = task_of(config.spec.task)
    task.check_exportable(read_json(base / "config.json") or {})
    missing = [p for p in config.spec.export.precisions if not (folder / "onnx" / p.value).is_dir()]
    with ExitStack() as stack:
        # Started before anything else is imported: its own imports go on beside the evaluation.
        exporter = stack.enter_context(task.exporter(folder / "export.log")) if missing else None
        models = _Models(config, work, base, progress)
        evaluation = _evaluate(config, folder, models, progress)
        gates = check_gates(config.spec.evaluation.gates, evaluation["after"])
        write_json(folder / "gates.json", gates)
        require_passed(gates)
        merged = models.merged_folder()
        for precision in missing:
            progress.step(f"exporting {precision.value}")
            if exporter:
                exporter.export(merged, folder / "onnx" / precision.value, precision)
    parity = {p.value: _parity(config, folder, p, models, progress) for p in config.spec.export.precisions}
    progress.step("putting the artifact together")
    parts = {onnx_folder(p.value): folder / "onnx" / p.value for p in config.spec.export.precisions}
    parts |= method_of(config.spec.method).artifact_parts(work.final, folder, _source(config, work))
    if config.spec.export.merge_weights:
        parts["model"] = merged
    parts["evaluation.json"] = folder / "evaluation.json"
    if work.training_log.exists():
        parts["training_log.jsonl"] = work.training_log
    if (report := work.stage(Stage.PREPARE) / "data" / REPORT).exists():
        parts[REPORT] = report
    results = {
        "metrics": {"before": evaluation["before"], "after": evaluation["after"]},
        "gates": gates,
        "parity": parity,
    }
    prepared = read_json(work.stage_marker(Stage.PREPARE)) or {}
    trained = read_json(work.stage_marker(Stage.TRAIN)) or {}
    timings = read_json(work.stage(Stage.TRAIN) / "metrics.json") or {}
    return assemble(artifact, parts, describe(config, prepared, trained, timings, results))


def _source(config: JobConfig, work: WorkFolder) -> dict[str, Any]:
    """Return the base model's URI and revision."""
    model = (read_json(work.stage_marker(Stage.PREPARE)) or {}).get("model", {})
    return {"uri": config.spec.model.uri, "revision": model.get("revision")}


class _Models:
    """The models and rows that the steps need, each loaded when it is first asked for and at most once."""

    def __init__(self, config: JobConfig, work: WorkFolder, base: Path, progress: Progress) -> None:
        self._config = config
        self._work = work
        self._base_folder = base
        self._progress = progress
        self._task = task_of(config.spec.task)
        self._base: Any = None
        self._merged: Any = None
        self._merged_folder = work.stage(Stage.PUBLISH) / "merged"

    @cached_property
    def tokenizer(self) -> Any:  # noqa: ANN401 - a transformers tokenizer
        return load_tokenizer(self._base_folder)

    @cached_property
    def validation(self) -> TokenStore:
        """The validation rows; the training rows when no rows were kept out."""
        data = self._work.stage(Stage.PREPARE) / "data"
        store = TokenStore.open(data / "validation")
        return store if len(store) else TokenStore.open(data / "train")

    @cached_property
    def questions(self) -> list[Any]:
        """The first validation prompts with their references."""
        from tunesmith_trainer.evaluate.evaluation import read_questions

        path = self._work.stage(Stage.PREPARE) / "data" / "evaluation.jsonl"
        return read_questions(path, self._config.spec.evaluation.max_rows)

    @property
    def data(self) -> ValidationSet:
        """What models are evaluated on."""
        return ValidationSet(self.validation, self.questions, self.tokenizer)

    def base(self) -> Any:  # noqa: ANN401
        """Return the base model. It is used up by `merged`."""
        if self._base is None:
            self._base = self._task.load_model(self._base_folder)
        return self._base

    def merged(self) -> Any:  # noqa: ANN401
        """Return the tuned model, merged."""
        folder = self.merged_folder()
        if self._merged is None:
            self._merged = self._task.load_model(folder)
        return self._merged

    def merged_folder(self) -> Path:
        """Return the folder of the tuned model, made when it is not there."""
        if not self._merged_folder.is_dir():
            temporary = self._merged_folder.with_name(f".merged.{os.getpid()}.tmp")
            inputs = MergeInputs(self.base, self._checked_rows, self._progress.step)
            self._merged = method_of(self._config.spec.method).write_tuned(self._work.final, temporary, inputs)
            self.tokenizer.save_pretrained(temporary)
            temporary.replace(self._merged_folder)
        self._base = None
        return self._merged_folder

    def _checked_rows(self) -> list[list[int]]:
        return [self.validation[i][0].tolist() for i in range(min(_CHECKED_ROWS, len(self.validation)))]


def _evaluate(config: JobConfig, folder: Path, models: _Models, progress: Progress) -> dict[str, Any]:
    """Evaluate the base model and the tuned one, write evaluation.json and return what it holds."""
    evaluation: dict[str, Any] | None = read_json(folder / "evaluation.json")
    if evaluation is not None:
        return evaluation
    results: dict[str, Any] = {}
    for when, model in (("before", models.base), ("after", models.merged)):
        path = folder / f"evaluation-{when}.json"
        results[when] = read_json(path)
        if results[when] is None:
            results[when] = _evaluate_one(config, model(), models, progress, when)
            write_json(path, results[when])
    answers = zip(results["before"]["answers"], results["after"]["answers"], strict=True)
    evaluation = {
        "before": results["before"]["metrics"],
        "after": results["after"]["metrics"],
        "rows": _rows(config, models),
        "questions": len(models.questions),
        "examples": [
            {
                "prompt": models.tokenizer.decode(question.prompt_ids),
                "reference": question.reference,
                "before": before,
                "after": after,
            }
            for question, (before, after) in zip(models.questions, answers, strict=False)
        ],
    }
    write_json(folder / "evaluation.json", evaluation)
    return evaluation


def _rows(config: JobConfig, models: _Models) -> int:
    return min(config.spec.evaluation.max_rows, len(models.validation))


def _evaluate_one(
    config: JobConfig,
    model: Any,  # noqa: ANN401
    models: _Models,
    progress: Progress,
    when: str,
) -> dict[str, Any]:
    rows = _rows(config, models)
    title = {"before": "evaluating the base model", "after": "evaluating the tuned model"}[when]
    with progress.track(title, rows + len(models.questions)) as advance:
        task = task_of(config.spec.task)
        result = task.evaluate(model, models.data, config.spec, rows=rows, shown=_EXAMPLES, advance=advance)
    log.info("%s training: %s", when, _shown(result["metrics"]))
    return result


def _shown(numbers: Mapping[str, float | int | None]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers.items() if value is not None)


def _parity(
    config: JobConfig, folder: Path, precision: Precision, models: _Models, progress: Progress
) -> dict[str, Any]:
    """Compare one export with the merged model, unless that is done, and return the numbers."""
    task = task_of(config.spec.task)
    path = folder / f"parity-{precision.value}.json"
    bounds = config.spec.export.parity
    numbers = read_json(path)
    if numbers is None:
        progress.step(f"checking {precision.value}")
        numbers = task.compare(folder / "onnx" / precision.value, models.merged(), models.data, bounds)
        write_json(path, numbers)
        log.info("%s: %s", precision.value, _shown(numbers))
    task.require_parity(precision, numbers, bounds)
    return dict(numbers)
