"""Publishes the checkpoints before the last: each becomes an artifact of its own, as the job's result does.

To the steps of publish a checkpoint is a job whose training has ended there. It passes the checks that the result
passes: its weights are those that training wrote, and the export computes what they compute. It has no gates, and no
answers are generated. One that does not pass is left out, as the result does not depend on it.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import MANIFEST, checkpoint_uri
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import JobConfig, OutputSpec
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.methods.registry import method_of
from tunesmith_trainer.models.location import model_path
from tunesmith_trainer.publish.artifact import assemble, base_source, describe
from tunesmith_trainer.publish.deliver import deliver, output_uri
from tunesmith_trainer.publish.progress import Progress
from tunesmith_trainer.publish.publication import Publication
from tunesmith_trainer.publish.trained import require_trained_files
from tunesmith_trainer.storage.files import link_tree, read_json, write_atomic, write_json

log = logging.getLogger(__name__)

Publish = Callable[[JobConfig, WorkFolder, Path, Progress], Publication]
"""Makes what a job publishes of its configuration, its work folder, and its base model."""

_OWN = (Reason.PARITY_FAILED, Reason.EXPORT_FAILED)
"""What is wrong with a checkpoint alone."""


@dataclass(frozen=True)
class CheckpointWork(WorkFolder):
    """The work folder of a checkpoint. What was prepared is the job's.

    Attributes:
        job: The job's work folder.
    """

    job: WorkFolder

    def stage(self, stage: Stage) -> Path:
        """Return the folder of a stage."""
        return self.job.stage(stage) if stage is Stage.PREPARE else super().stage(stage)


def publish_checkpoints(
    config: JobConfig, work: WorkFolder, publication: Publish, progress: Progress
) -> list[dict[str, Any]]:
    """Publish the checkpoints that training has kept.

    Args:
        config: The job.
        work: Its work folder.
        publication: What the job publishes.
        progress: Where progress is shown.

    Returns:
        `{step, uri, digest}` of each, the oldest first.

    Raises:
        StageError: One cannot be written, or its weights are not those that training wrote.
    """
    trained = read_json(work.stage_marker(Stage.TRAIN)) or {}
    found = []
    for step in sorted(map(int, trained.get("epochEnds", {}))):
        if step == trained["publishedStep"]:
            continue  # its weights are the result
        uri = checkpoint_uri(output_uri(config, work), step)
        artifact = _built(_config_of(config, uri), _work_of(work, step, trained), publication, progress)
        if artifact is not None:
            progress.step(f"writing the checkpoint of step {step} to {uri}")
            digest = str((read_json(artifact / MANIFEST) or {})["digest"])
            found.append({"step": step, "uri": deliver(artifact, digest, uri), "digest": digest})
    return found


def _config_of(config: JobConfig, uri: str) -> JobConfig:
    """Return the job as it is of a checkpoint: without gates, and with an output of its own."""
    spec = config.spec
    evaluation = spec.evaluation.model_copy(update={"gates": ()})
    output = (spec.output or OutputSpec()).model_copy(update={"uri": uri})
    export = spec.export.model_copy(update={"merge_weights": False})
    changed = spec.model_copy(update={"evaluation": evaluation, "output": output, "export": export})
    return config.model_copy(update={"spec": changed})


def _work_of(work: WorkFolder, step: int, trained: dict[str, Any]) -> CheckpointWork:
    """Return the work folder of a checkpoint, with its weights as the result of training."""
    made = CheckpointWork(work.stage(Stage.PUBLISH) / "checkpoints" / f"step-{step}", work)
    shutil.rmtree(made.stage(Stage.TRAIN), ignore_errors=True)
    link_tree(work.epoch_end(step), made.final)
    text = work.training_log.read_bytes().splitlines(keepends=True)
    lines = [entry for line in text if (entry := json.loads(line))["step"] <= step]
    write_atomic(made.training_log, b"".join(text[: len(lines)]))
    epochs = round(trained["epochs"] * step / trained["steps"], 4)
    about = {"steps": step, "publishedStep": step, "epochs": epochs, "stoppedEarly": None}
    if lines:
        evaluations = [line["evalLoss"] for line in lines if "evalLoss" in line]
        about |= {"tokens": lines[-1].get("tokens"), "trainLoss": sum(line["loss"] for line in lines) / len(lines)}
        about["evalLoss"] = evaluations[-1] if evaluations else None
    left_out = ("inputs", "epochEnds", "bestStep", "bestEvalLoss")
    kept = {name: value for name, value in trained.items() if name not in left_out}
    write_json(made.stage_marker(Stage.TRAIN), {**kept, **about, "final": trained["epochEnds"][str(step)]})
    require_trained_files(made)
    return made


def _built(config: JobConfig, work: CheckpointWork, publication: Publish, progress: Progress) -> Path | None:
    """Return the folder of a checkpoint's artifact; None if it does not pass a check."""
    artifact = work.stage(Stage.PUBLISH) / "artifact"
    failed = work.stage(Stage.PUBLISH) / "failed.json"
    if (artifact / MANIFEST).is_file():
        return artifact
    if failed.is_file():
        return None
    try:
        _build(config, work, publication, artifact, progress)
    except StageError as error:
        if error.reason not in _OWN:
            raise
        log.warning("%s is not published: %s", work.root.name, error)
        write_json(failed, {"message": str(error)})
        return None
    finally:
        for name in ("merged", "base_nf4"):
            shutil.rmtree(work.stage(Stage.PUBLISH) / name, ignore_errors=True)
    return artifact


def _build(config: JobConfig, work: CheckpointWork, kind: Publish, artifact: Path, progress: Progress) -> None:
    """Export a checkpoint, check the export, and assemble its artifact."""
    folder = work.stage(Stage.PUBLISH)
    folder.mkdir(parents=True, exist_ok=True)
    progress.step(f"exporting the checkpoint of {work.root.name}")
    publication = kind(config, work, model_path(work), progress)
    models, checks = publication.models, publication.checks
    with ExitStack() as stack:
        publication.start(stack)
        exported = models.exported_folder()
        checks.record_reference(models.tuned)
        models.release()
        publication.export(stack)
    parity: dict[str, Any] = {}
    with publication.exports():
        if checks.has_replay:
            with checks.candidate() as candidate:
                parity["template"] = checks.template(candidate)
        parity |= checks.parity(exported)
    parity |= publication.merge_numbers({})
    prepared = read_json(work.stage_marker(Stage.PREPARE)) or {}
    trained = read_json(work.stage_marker(Stage.TRAIN)) or {}
    parts = publication.parts()
    parts |= method_of(config.spec.method).artifact_parts(work.final, folder, base_source(config, work))
    parts["training_log.jsonl"] = work.training_log
    results = {"metrics": {}, "gates": [], "parity": parity}
    assemble(artifact, parts, {**describe(config, prepared, trained, {}, results), **publication.facts()})
