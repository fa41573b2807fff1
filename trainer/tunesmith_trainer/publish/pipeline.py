"""The steps of the publish stage. Each writes a file or folder that is complete or absent, and is not repeated."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import MANIFEST, onnx_folder
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.data.rendering_time import read_rendering_time
from tunesmith_trainer.data.report import REPORT
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate.validation import AS_TRAINED, evaluation_file, evaluation_rows
from tunesmith_trainer.methods.base import MergeInputs
from tunesmith_trainer.methods.registry import method_of
from tunesmith_trainer.models.fingerprint import require_same_base
from tunesmith_trainer.models.location import model_path
from tunesmith_trainer.models.memory import give_back, is_small
from tunesmith_trainer.models.tokenizer import load_tokenizer
from tunesmith_trainer.publish.answers import answering_export, gates_before_export, with_answers
from tunesmith_trainer.publish.artifact import assemble, describe
from tunesmith_trainer.publish.as_trained import compared, evaluate_as_trained
from tunesmith_trainer.publish.deliver import deliver, output_uri
from tunesmith_trainer.publish.evaluations import evaluate_both, write_evaluation, write_predictions
from tunesmith_trainer.publish.exports import is_exported, record_export, remove_export, require_current_exports
from tunesmith_trainer.publish.gates import check_gates, require_passed
from tunesmith_trainer.publish.progress import Progress
from tunesmith_trainer.publish.served import ServedChecks
from tunesmith_trainer.publish.trained import require_trained_files
from tunesmith_trainer.runtime.measure import read_measured
from tunesmith_trainer.storage.files import digest_of_tree, read_json, write_json
from tunesmith_trainer.tasks.base import ValidationSet
from tunesmith_trainer.tasks.registry import task_for

_CHECKED_ROWS = 4  # rows on which merged and adapted logits are compared


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
        progress.update(f"uploading {done / 1e6:.0f}/{(total or done) / 1e6:.0f} MB")

    written = deliver(artifact, manifest["digest"], uri, report)
    return {
        "artifact": {"uri": written, "digest": manifest["digest"]},
        "metrics": manifest["metrics"],
        "gates": manifest["gates"],
        "parity": manifest["parity"],
    }


def _build(config: JobConfig, work: WorkFolder, artifact: Path, progress: Progress) -> dict[str, Any]:
    """Run all steps up to the assembled artifact and return its manifest."""
    folder = work.stage(Stage.PUBLISH)
    base = model_path(work)
    progress.step("checking the base model and the trained weights")
    require_same_base(work)
    require_trained_files(work)
    task = task_for(config.spec)
    if config.spec.precisions:
        task.check_exportable(read_json(base / "config.json") or {})
    missing = [p for p in config.spec.precisions if not is_exported(folder, p)]
    with ExitStack() as stack:
        facts = (read_json(work.stage_marker(Stage.PREPARE)) or {}).get("data", {}).get("facts", {})
        exporter = task.exporter(folder / "export.log", config.spec, facts) if missing else None
        # With a small model it is started first, so that its imports run in parallel with the evaluation.
        running = stack.enter_context(exporter) if exporter and is_small(base) else None
        models = _Models(config, work, base, progress)
        checks = ServedChecks(config, folder, lambda: models.data, progress)
        answering = answering_export(config, work, task, base)
        loaders = {"before": models.base, "after": models.merged}
        evaluations = evaluate_both(config, folder, models.data, loaders, progress, answering)
        models.data = replace(models.data, before=evaluations["before"].get("reference"))
        early = gates_before_export(config.spec.evaluation.gates, answering)
        gates = check_gates(early, evaluations["after"]["metrics"])
        write_json(folder / "gates.json", gates)
        require_passed(gates)
        merged = models.merged_folder()
        checks.record_reference(models.merged)
        as_trained = {}
        if method_of(config.spec.method).info.is_quantized:
            found = evaluate_as_trained(config, folder, models.data, models.as_trained, progress)
            as_trained = {AS_TRAINED: found}
            write_evaluation(config, folder, models.data, {**evaluations, **as_trained})
        # From here on the exporter, ONNX Runtime and the server's code need the memory, one after the other.
        models.release()
        made = [precision for precision in config.spec.precisions if precision not in missing]
        model = digest_of_tree(merged) if config.spec.precisions else ""
        require_current_exports(folder, made, merged, model)
        running = running or (stack.enter_context(exporter) if exporter else None)
        for precision in missing:
            progress.step(f"exporting {precision.value}")
            remove_export(folder, precision)
            if running:
                running.export(merged, folder / "onnx" / precision.value, precision)
            record_export(folder, precision, model)
    parity, served = _check(checks, merged)
    if merge := models.merge_numbers():
        pair = {name: compared(found, evaluations["after"]) for name, found in as_trained.items()}
        parity["merge"] = {**merge, **pair.get(AS_TRAINED, {})}
    if answering is not None:
        evaluations["after"] = with_answers(evaluations["after"], served, answering)
        write_evaluation(config, folder, models.data, {**evaluations, **as_trained})
        gates = check_gates(config.spec.evaluation.gates, evaluations["after"]["metrics"])
    predictions = write_predictions(task, folder, models.data, evaluations, served)
    for name, result in served.items():
        gates += check_gates(config.spec.evaluation.gates, result["metrics"], served=name)
    write_json(folder / "gates.json", gates)
    require_passed(gates)
    progress.step("assembling the artifact")
    parts = {onnx_folder(p.value): folder / "onnx" / p.value for p in config.spec.precisions}
    parts |= method_of(config.spec.method).artifact_parts(work.final, folder, _source(config, work))
    if config.spec.export.merge_weights:
        parts["model"] = merged
    parts["evaluation.json"] = folder / "evaluation.json"
    if predictions is not None:
        parts["predictions.jsonl"] = predictions
    parts |= task.evaluation_files(folder, evaluations)
    if work.training_log.exists():
        parts["training_log.jsonl"] = work.training_log
    if (report := work.stage(Stage.PREPARE) / "data" / REPORT).exists():
        parts[REPORT] = report
    metrics = {when: result["metrics"] for when, result in evaluations.items()}
    if served:
        metrics["served"] = {name: result["metrics"] for name, result in served.items()}
    measured = {stage.value: found for stage in Stage if (found := read_measured(work, stage))}
    evaluation = read_json(folder / "evaluation.json") or {}
    computed = {name: evaluation.get(name, {}) for name in ("computedIn", "computedOn")}
    results = {"metrics": metrics, **computed, "gates": gates, "parity": parity, "measured": measured}
    prepared = read_json(work.stage_marker(Stage.PREPARE)) or {}
    trained = read_json(work.stage_marker(Stage.TRAIN)) or {}
    timings = read_json(work.stage(Stage.TRAIN) / "metrics.json") or {}
    return assemble(artifact, parts, describe(config, prepared, trained, timings, results))


def _check(checks: ServedChecks, merged: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Compare the exports and their server with what was trained; return the numbers and the served evaluations."""
    if not checks.has_replay:
        return checks.parity(merged), {}
    with checks.candidate() as candidate:
        template = checks.template(candidate)
        parity = {"template": template, **checks.parity(merged)}
        return parity, checks.evaluate(candidate)


def _source(config: JobConfig, work: WorkFolder) -> dict[str, Any]:
    """Return the base model's URI and revision."""
    model = (read_json(work.stage_marker(Stage.PREPARE)) or {}).get("model", {})
    return {"uri": config.spec.model.uri, "revision": model.get("revision")}


class _Models:
    """The models and rows that the steps need; each is loaded on first use, and once."""

    def __init__(self, config: JobConfig, work: WorkFolder, base: Path, progress: Progress) -> None:
        self._config = config
        self._work = work
        self._base_folder = base
        self._progress = progress
        self._task = task_for(config.spec)
        self._model: tuple[Path, Any] | None = None
        self._merged_folder = work.stage(Stage.PUBLISH) / "merged"
        self._merge_file = work.stage(Stage.PUBLISH) / "parity-merge.json"

    @cached_property
    def tokenizer(self) -> Any:  # noqa: ANN401 - a transformers tokenizer
        return load_tokenizer(self._base_folder)

    @cached_property
    def validation(self) -> TokenStore:
        """The validation rows; the training rows if none were held out."""
        return evaluation_rows(self._work)

    @cached_property
    def prompts(self) -> list[Any]:
        """The first validation prompts with their references."""
        return self._task.read_prompts(evaluation_file(self._work), self._config.spec.evaluation.max_rows)

    @cached_property
    def data(self) -> ValidationSet:
        """The data that models are evaluated on."""
        from tunesmith_trainer.evaluate.prompts import read_requests
        from tunesmith_trainer.export.rendering import MAX_ROWS

        path = evaluation_file(self._work)
        requests = read_requests(path, MAX_ROWS)
        return ValidationSet(self.validation, self.prompts, self.tokenizer, requests, read_rendering_time(path.parent))

    def release(self) -> None:
        """Give the memory of the models back; they are loaded again if they are needed."""
        self._model = None
        give_back()

    def base(self) -> Any:  # noqa: ANN401
        """Return the base model."""
        return self._load(self._base_folder)

    def merged(self) -> Any:  # noqa: ANN401
        """Return the tuned model, merged."""
        return self._load(self.merged_folder())

    def as_trained(self) -> Any:  # noqa: ANN401
        """Return the tuned model beside quantized weights. No other one is in memory beside it."""
        self.release()
        dtype = (read_json(self._merged_folder.with_name("evaluation-after.json")) or {}).get("computedIn", "float32")
        method, load = method_of(self._config.spec.method), self._task.load_quantized
        return method.as_trained(self._work.final, self._base_folder, load, dtype)

    def _load(self, folder: Path) -> Any:  # noqa: ANN401
        """Return the model in a folder. No other one is in memory beside it."""
        if self._model is None or self._model[0] != folder:
            self.release()
            self._model = folder, self._task.load_model(folder)
        return self._model[1]

    def merged_folder(self) -> Path:
        """Return the folder of the tuned model; create it if it does not exist."""
        if not self._merged_folder.is_dir():
            self.release()
            temporary = self._merged_folder.with_name(f".merged.{os.getpid()}.tmp")
            load, step = self._task.load_model, self._progress.step
            inputs = MergeInputs(
                self._config.spec.adapter_settings,
                self._base_folder,
                load,
                lambda model: self._task.compared_outputs(model, self.validation, _CHECKED_ROWS),
                step,
                self._task.load_quantized,
                self._task.head_modules,
            )
            numbers = method_of(self._config.spec.method).write_tuned(self._work.final, temporary, inputs)
            write_json(self._merge_file, numbers)
            self.tokenizer.save_pretrained(temporary)
            temporary.replace(self._merged_folder)
        return self._merged_folder

    def merge_numbers(self) -> dict[str, Any]:
        """Return what merging has changed besides; empty if nothing was merged."""
        return read_json(self._merge_file) or {}
