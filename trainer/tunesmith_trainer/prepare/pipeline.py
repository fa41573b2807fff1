"""The prepare stage: fetches, validates and tokenises. It needs no GPU, and finds bad data before one is used."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import digest_of_json
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.planner import DataShape, disk_of
from tunesmith_api.spec import DatasetFormat, DatasetSource, JobConfig
from tunesmith_api.tasks import METRICS
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.data.formats import RowParser
from tunesmith_trainer.data.named_columns import require_columns
from tunesmith_trainer.data.progress import Progress
from tunesmith_trainer.data.rendering_time import record_rendering_time
from tunesmith_trainer.data.report import REPORT, RowIndex, build_report, log_findings
from tunesmith_trainer.data.report.relative import without_folder
from tunesmith_trainer.data.report.samples import encoded_samples
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.data.sources import Dataset, locate
from tunesmith_trainer.methods.registry import method_of
from tunesmith_trainer.models.base import obtain_model
from tunesmith_trainer.models.chat_template import settle_template
from tunesmith_trainer.models.location import model_path
from tunesmith_trainer.models.remote import RemoteModel, remote_model
from tunesmith_trainer.models.tokenizer import load_tokenizer
from tunesmith_trainer.prepare.adapter_start import write_start
from tunesmith_trainer.prepare.disk_need import require_disk
from tunesmith_trainer.prepare.model_facts import check_facts, configuration_check, require_served_length
from tunesmith_trainer.prepare.overlap import require_unseen
from tunesmith_trainer.prepare.planning import known_settings, make_plan, model_shape, refuse_hopeless
from tunesmith_trainer.prepare.split import held_out_rows
from tunesmith_trainer.prepare.stop_token import require_stop_token
from tunesmith_trainer.prepare.tokenise import RowStore, tokenise
from tunesmith_trainer.storage.files import write_json
from tunesmith_trainer.storage.lora_base import require_fitting_base
from tunesmith_trainer.storage.probe import probe_output
from tunesmith_trainer.tasks.base import Task
from tunesmith_trainer.tasks.registry import task_for

log = logging.getLogger(__name__)

_TOKENIZER_CHARACTERS = (
    200_000_000  # on about so many the tokenizer of a new model is trained, from rows all over the data
)


def prepare(config: JobConfig, work: WorkFolder) -> dict[str, Any]:
    """Run the stage and return its result. `data/token_store.py` reads the rows.

    A run that was stopped at any moment can be repeated and writes the same files.

    Raises:
        StageError: The data or the model cannot be used. The message has the location and the remedy.
    """
    probe_output(config)
    refuse_hopeless(config, known_settings(config))
    task = task_for(config.spec)
    # What is small of a remote model is fetched and checked here, its weights while the rows are prepared.
    check = configuration_check(config, task)
    with remote_model(config, work, task.architectures, check, task.stored_class) as remote:
        return _prepare(config, work, task, remote)


def _prepare(config: JobConfig, work: WorkFolder, task: Task, remote: RemoteModel | None) -> dict[str, Any]:
    """Prepare the rows, and the model that may still be coming."""
    folder = work.stage(Stage.PREPARE)
    spec = config.spec.dataset
    parser = RowParser(spec.format, spec.columns, task.formats(config.spec))
    targets = task.targets(config.spec)
    train = _dataset(spec.sources, parser, work, "train", remote)
    validation = None
    if spec.validation.sources:
        validation = _dataset(spec.validation.sources, parser, work, "validation", remote)
    train_index = RowIndex(folder)
    validation_index = RowIndex(folder) if validation is not None else None
    rows = _count(train, work, train_index, remote, targets.add)
    if validation is not None and validation_index is not None:
        _count(validation, work, validation_index, remote, targets.add_validation)
    require_columns(parser)
    held_out = held_out_rows(rows, spec.validation.fraction, config.spec.training.seed, targets.strata())
    facts = targets.facts()
    _check_gates(config, task, parser.format, facts)

    def training_rows() -> Iterator[Row]:
        return (row for index, row in enumerate(train) if index not in held_out)

    every = 1 + train_index.characters.total_length // _TOKENIZER_CHARACTERS

    def texts() -> Iterator[str]:
        return (text for row in islice(training_rows(), 0, None, every) for text in row.texts)

    chat = task.needs_chat_template(parser.format)
    model = obtain_model(config, work, texts, chat=chat, architectures=task.architectures, remote=remote)
    if chat:
        model = settle_template(model, work, fold=spec.system_turn == "fold")
    architecture = remote.architecture if remote else check_facts(config, model, task)
    facts = task.settled_facts(facts, architecture.config.to_dict(), model.tokenizer, config.spec)
    method = method_of(config.spec.method)
    method.check_layers(task.linear_layers(model.path, architecture, facts), config.spec.adapter_settings)
    encoder = task.encoder(model.tokenizer, config.spec, facts)
    partial = folder / ".data.partial"
    shutil.rmtree(partial, ignore_errors=True)
    record_rendering_time(partial, model.tokenizer.chat_template)
    questions = partial / "evaluation.jsonl"
    with (
        RowStore(partial / "train", encoder) as train_store,
        RowStore(partial / "validation", encoder, questions, task.evaluation_line) as validation_store,
    ):
        with Progress(work, "tokenising", rows, beside=remote) as progress:
            tokenise(train, held_out, train_store, validation_store, progress)
        train_store.require_rows()
        if validation is not None and validation_index is not None:
            with Progress(work, "tokenising validation rows", len(validation_index), beside=remote) as progress:
                tokenise(validation, held_out, None, validation_store, progress)
        validation_store.require_rows()
    if encoder.log.skipped:
        log.warning("%d rows are longer than %d tokens and were skipped", encoder.log.skipped, encoder.max_length)
    written = train_store.writer
    require_served_length(config, model, architecture, written.longest)
    if chat:
        require_stop_token(written.folder, model, architecture)
    shape = model_shape(model.path)
    plan = make_plan(config, shape, DataShape(written.rows, written.longest, written.tokens / written.rows))
    if validation is not None:  # where rows are held out, equal ones are chance, and stand in the report
        require_unseen(written.folder, validation_store.writer.folder)
    result = {
        "digest": digest_of_json([file.sha256 for data in (train, validation) if data for file in data.files]),
        "format": parser.format.value,
        "rows": rows + (sum(validation.counts) if validation is not None else 0),
        "trainRows": written.rows,
        "validationRows": validation_store.writer.rows,
        "trainTokens": written.tokens,
        "learnedTokens": written.learned,
        "truncatedRows": encoder.log.truncated,
        "skippedRows": encoder.log.skipped,
        "maxLength": encoder.max_length,
        "longestRow": written.longest,
        "sources": _describe(train, parser) + (_describe(validation, parser) if validation else []),
        **({"facts": facts} if facts else {}),
    }
    samples = encoded_samples(task.encoder(model.tokenizer, config.spec, facts), islice(training_rows(), 8))
    report = build_report(
        parser,
        spec.format,
        train_index,
        validation_index,
        held_out,
        samples,
        encoder.log,
        encoder.max_length,
        targets.report(),
    )
    names = [file.name for data in (train, validation) if data for file in data.files]
    write_json(partial / REPORT, without_folder(report, names))
    log_findings(report)
    shutil.rmtree(folder / "data", ignore_errors=True)
    partial.replace(folder / "data")
    if remote is not None:
        model = replace(model, path=remote.finish())
    # The model that is trained: with a new head, where the task needs one.
    model = replace(model, path=task.complete_model(model.path, folder / "model-with-head", facts, config.spec))
    start = write_start(config, work, model.path, task.linear_layers(model.path, architecture, facts))
    log.info("%d rows to train on (%d tokens), %d to validate", written.rows, written.tokens, validation_store.rows)
    disk = disk_of(config.spec, shape, written.rows) if shape else None
    if disk:
        require_disk(config, work, disk)
    described = model.describe(work)
    _require_base(config, described, model.path)
    others = {name: value for name, value in (("start", start), ("disk", disk), ("plan", plan)) if value}
    return {"model": described, "data": result, **others}


def recheck(config: JobConfig, work: WorkFolder, result: Mapping[str, Any]) -> None:
    """Check what may have changed since the stage was completed: fields that its result does not depend on.

    Args:
        config: The job.
        work: The work folder.
        result: What `prepare` returned.

    Raises:
        StageError: The job can never be published as its spec is now.
    """
    found = result["data"]
    _check_gates(config, task_for(config.spec), DatasetFormat(found["format"]), found.get("facts", {}))
    _require_base(config, result["model"], model_path(work))


def _require_base(config: JobConfig, model: Mapping[str, Any], folder: Path) -> None:
    """Refuse a base for adapters that is of another model than this job's, before anything is trained."""
    if config.spec.export.base_uri:
        require_fitting_base(config, model, load_tokenizer(folder).chat_template)


def _dataset(
    sources: tuple[DatasetSource, ...], parser: RowParser, work: WorkFolder, role: str, remote: RemoteModel | None
) -> Dataset:
    files = [file for index, source in enumerate(sources) for file in locate(source, work, f"{role}-{index}", remote)]
    return Dataset(files, parser)


def _count(
    data: Dataset, work: WorkFolder, index: RowIndex, remote: RemoteModel | None, note: Callable[[Row], None]
) -> int:
    """Check each row, add it to the index, note its targets, and return the number of rows."""
    detected = data.parser.format is not DatasetFormat.AUTO
    with Progress(work, "checking rows", None, beside=remote) as progress:
        for row in progress.over(data):
            index.add(row)
            note(row)
    if not detected:
        log.info("%s: detected format %s", data.files[0].name, data.parser.format.value)
    return len(index)


def _check_gates(config: JobConfig, task: Task, data_format: DatasetFormat, facts: Mapping[str, Any]) -> None:
    """Refuse gates on metrics that the rows do not have."""
    task.check_gates(config.spec, facts)
    if data_format is not DatasetFormat.TEXT:
        return
    others = " or ".join(metric.name for metric in task.info.metrics if not metric.needs_answers)
    for gate in config.spec.evaluation.gates:
        if METRICS[gate.metric].needs_answers:
            raise StageError(
                Reason.INVALID_SPEC,
                f"spec.evaluation.gates: {gate.metric} compares answers, and rows of the format text have none",
                f"Use a gate on {others}, or rows with prompts and completions",
            )


def _describe(data: Dataset, parser: RowParser) -> list[dict[str, Any]]:
    """Return an entry for each file."""
    return [
        {
            "name": file.name,
            "sha256": file.sha256,
            "rows": rows,
            "format": parser.format.value,
            **({"revision": file.revision} if file.revision else {}),
        }
        for file, rows in zip(data.files, data.counts, strict=True)
    ]
