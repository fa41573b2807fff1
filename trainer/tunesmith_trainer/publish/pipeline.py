"""The steps of the publish stage. Each writes a file or folder that is complete or absent, and is not repeated."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import MANIFEST
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.data.report import REPORT
from tunesmith_trainer.evaluate.validation import AS_TRAINED
from tunesmith_trainer.methods.registry import method_of
from tunesmith_trainer.models.fingerprint import require_same_base
from tunesmith_trainer.models.location import model_path
from tunesmith_trainer.publish.answers import answering_export, gates_before_export, with_answers
from tunesmith_trainer.publish.artifact import assemble, base_source, describe
from tunesmith_trainer.publish.as_trained import compared, evaluate_as_trained
from tunesmith_trainer.publish.checkpoints import publish_checkpoints
from tunesmith_trainer.publish.deliver import deliver, output_uri
from tunesmith_trainer.publish.evaluations import evaluate_both, write_evaluation, write_predictions
from tunesmith_trainer.publish.gates import check_gates, require_passed
from tunesmith_trainer.publish.lora.publication import AdapterBesideBase
from tunesmith_trainer.publish.progress import Progress
from tunesmith_trainer.publish.publication import MergedModel
from tunesmith_trainer.publish.served import ServedChecks
from tunesmith_trainer.publish.trained import require_trained_files
from tunesmith_trainer.runtime.measure import read_measured
from tunesmith_trainer.storage.files import read_json, write_json
from tunesmith_trainer.storage.lora_base import absolute_uri
from tunesmith_trainer.tasks.registry import task_for


def run(config: JobConfig, work: WorkFolder) -> dict[str, Any]:
    """Run the stage (see `tunesmith_trainer.publish.publish`)."""
    folder = work.stage(Stage.PUBLISH)
    artifact = folder / "artifact"
    progress = Progress(work)
    manifest = read_json(artifact / MANIFEST)
    if manifest is None:
        manifest = _build(config, work, artifact, progress)
    # Before the artifact itself: once its manifest is there, they are too.
    checkpoints = publish_checkpoints(config, work, _publication(config), progress)
    uri = output_uri(config, work)
    progress.step(f"writing the artifact to {uri}")

    def report(done: int, total: int | None) -> None:
        progress.update(f"uploading {done / 1e6:.0f}/{(total or done) / 1e6:.0f} MB")

    written = deliver(artifact, manifest["digest"], uri, report)
    found = manifest.get("base")
    base = {"base": {"uri": absolute_uri(found["uri"], uri), "digest": found["digest"]}} if found else {}
    step = (read_json(work.stage_marker(Stage.TRAIN)) or {}).get("publishedStep")
    about = {**({} if step is None else {"step": step}), **({"checkpoints": checkpoints} if checkpoints else {})}
    return {
        "artifact": {"uri": written, "digest": manifest["digest"], **about, **base},
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
    publication = _publication(config)(config, work, base, progress)
    models, checks = publication.models, publication.checks
    with ExitStack() as stack:
        publication.start(stack)
        answering = answering_export(config, work, task, base)
        loaders = {"before": models.base, "after": models.tuned}
        evaluations = evaluate_both(config, folder, models.data, loaders, progress, answering)
        models.data = replace(models.data, before=evaluations["before"].get("reference"))
        early = gates_before_export(config.spec.evaluation.gates, answering)
        gates = check_gates(early, evaluations["after"]["metrics"])
        write_json(folder / "gates.json", gates)
        require_passed(gates)
        exported = models.exported_folder()
        checks.record_reference(models.tuned)
        as_trained = {}
        if method_of(config.spec.method).info.is_quantized:
            found = evaluate_as_trained(config, folder, models.data, models.as_trained, progress)
            as_trained = {AS_TRAINED: found}
            write_evaluation(config, folder, models.data, {**evaluations, **as_trained})
        # From here on the exporter, ONNX Runtime and the server's code need the memory, one after the other.
        models.release()
        publication.export(stack)
    with publication.exports():
        parity, served = _check(checks, exported)
    pair = {name: compared(found, evaluations["after"]) for name, found in as_trained.items()}
    parity |= publication.merge_numbers(pair.get(AS_TRAINED, {}))
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
    parts = publication.parts()
    parts |= method_of(config.spec.method).artifact_parts(work.final, folder, base_source(config, work))
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
    description = describe(config, prepared, trained, timings, results)
    return assemble(artifact, parts, {**description, **publication.facts()})


def _publication(config: JobConfig) -> type[MergedModel | AdapterBesideBase]:
    """Return what the job publishes."""
    return AdapterBesideBase if config.spec.export.adapter_only else MergedModel


def _check(checks: ServedChecks, exported: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Compare the exports and their server with what was trained; return the numbers and the served evaluations."""
    if not checks.has_replay:
        return checks.parity(exported), {}
    with checks.candidate() as candidate:
        template = checks.template(candidate)
        parity = {"template": template, **checks.parity(exported)}
        return parity, checks.evaluate(candidate)
