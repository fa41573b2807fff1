"""The prepare stage: fetch, validate, tokenise. Nothing here needs a GPU, and what is wrong is found here."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith_api.artifact import digest_of_json
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import DatasetFormat, DatasetSource, JobConfig
from tunesmith_api.tasks import METRICS, TaskInfo
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_trainer.data.encode import Encoder
from tunesmith_trainer.data.formats import RowParser
from tunesmith_trainer.data.progress import Progress
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.data.sources import Dataset, locate
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.models.base import obtain_model
from tunesmith_trainer.prepare.disk_need import estimate, require_disk
from tunesmith_trainer.prepare.model_facts import check_facts, require_served_length
from tunesmith_trainer.prepare.stop_token import require_stop_token
from tunesmith_trainer.storage.files import write_atomic
from tunesmith_trainer.storage.probe import probe_output
from tunesmith_trainer.tasks.registry import task_of

log = logging.getLogger(__name__)

_CUT = "Raise spec.training.maxLength, or shorten the rows"


def prepare(config: JobConfig, work: WorkFolder) -> dict[str, Any]:
    """Run the stage and return its result; `data/token_store.py` reads the rows.

    Run again after it was stopped at any moment, it ends in the same files.

    Raises:
        StageError: The data or the model cannot be used; the message says where and what to do.
    """
    probe_output(config)
    folder = work.stage(Stage.PREPARE)
    spec, task = config.spec.dataset, task_of(config.spec.task)
    parser = RowParser(spec.format, spec.columns)
    train = _dataset(spec.sources, parser, work, "train")
    validation = _dataset(spec.validation.sources, parser, work, "validation") if spec.validation.sources else None
    rows = _count(train, work)
    held_out = _held_out(rows, spec.validation.fraction, config.spec.training.seed)
    _check_gates(config, task.info, parser.format)
    if validation is not None:
        _count(validation, work)

    def training_rows() -> Iterator[Row]:
        return (row for index, row in enumerate(train) if index not in held_out)

    def validation_rows() -> Iterable[Row]:
        return validation if validation is not None else (row for i, row in enumerate(train) if i in held_out)

    def texts() -> Iterator[str]:
        return (text for row in training_rows() for text in row.texts)

    model = obtain_model(
        config, work, texts, chat=task.needs_chat_template(parser.format), architectures=task.architectures
    )
    architecture = check_facts(config, model, task)
    encoder = task.encoder(model.tokenizer, config.spec)
    partial = folder / ".data.partial"
    shutil.rmtree(partial, ignore_errors=True)
    train_store = _store(partial / "train", encoder, training_rows(), work, rows - len(held_out))
    require_served_length(config, model, architecture, int(train_store.lengths.max()))
    if task.needs_chat_template(parser.format):
        require_stop_token(train_store, model, architecture)
    total = sum(validation.counts) if validation is not None else len(held_out)
    validation_store = _store(partial / "validation", encoder, validation_rows(), work, total, partial)
    result = {
        "digest": digest_of_json([file.sha256 for data in (train, validation) if data for file in data.files]),
        "format": parser.format.value,
        "rows": rows + (sum(validation.counts) if validation is not None else 0),
        "trainRows": len(train_store),
        "validationRows": len(validation_store),
        "trainTokens": len(train_store.tokens),
        "learnedTokens": int(train_store.mask.sum()),
        "truncatedRows": encoder.counts.truncated,
        "skippedRows": encoder.counts.skipped,
        "maxLength": encoder.max_length,
        "longestRow": int(train_store.lengths.max()),
        "sources": _describe(train, parser) + (_describe(validation, parser) if validation else []),
    }
    shutil.rmtree(folder / "data", ignore_errors=True)
    partial.replace(folder / "data")
    log.info("%d rows to train on (%d tokens), %d to validate", len(train_store), result["trainTokens"], total)
    disk = estimate(config.spec, architecture, len(train_store))
    require_disk(config, work, disk)
    return {"model": model.describe(work), "data": result, "disk": disk}


def _dataset(sources: tuple[DatasetSource, ...], parser: RowParser, work: WorkFolder, role: str) -> Dataset:
    return Dataset([locate(source, work, f"{role}-{index}") for index, source in enumerate(sources)], parser)


def _count(data: Dataset, work: WorkFolder) -> int:
    """Return the number of rows, having checked each."""
    recognised = data.parser.format is not DatasetFormat.AUTO
    with Progress(work, "checking rows", None) as progress:
        rows = sum(1 for _ in progress.over(data))
    if not recognised:
        log.info("%s: recognised as %s", data.files[0].name, data.parser.format.value)
    return rows


def _held_out(rows: int, fraction: float | None, seed: int) -> frozenset[int]:
    """Return the numbers of the rows that are kept for validation: at least one, and not all."""
    if fraction is None:
        return frozenset()
    if rows < 2:
        raise StageError(
            Reason.INVALID_DATASET,
            "the data set has a single row, which cannot be split into training and validation",
            "Add rows, or give spec.dataset.validation.sources",
        )
    count = min(max(1, round(rows * fraction)), rows - 1)
    return frozenset(np.random.default_rng(seed).permutation(rows)[:count].tolist())


def _check_gates(config: JobConfig, task: TaskInfo, data_format: DatasetFormat) -> None:
    """Refuse a gate that plain texts can never pass."""
    if data_format is not DatasetFormat.TEXT:
        return
    others = " or ".join(metric.name for metric in task.metrics if not metric.needs_answers)
    for gate in config.spec.evaluation.gates:
        if METRICS[gate.metric].needs_answers:
            raise StageError(
                Reason.INVALID_SPEC,
                f"spec.evaluation.gates: {gate.metric} compares answers, and rows of the format text have none",
                f"Use a gate on {others}, or rows with prompts and completions",
            )


def _store(
    target: Path, encoder: Encoder, rows: Iterable[Row], work: WorkFolder, total: int, evaluation: Path | None = None
) -> TokenStore:
    """Tokenise rows into a store, and with `evaluation` the questions of `evaluation.jsonl` into that folder."""
    questions: list[bytes] = []

    def examples() -> Iterator[tuple[list[int], list[int]]]:
        number = 0
        with Progress(work, "tokenising", total) as progress:
            for pieces in progress.over(encoder.encode(rows)):
                for piece in pieces:
                    if evaluation is not None and piece.row.turns:
                        ids, reference = encoder.prompt_ids(piece.row)
                        question = {"row": number, "prompt_ids": ids, "reference": reference}
                        questions.append(json.dumps(question, ensure_ascii=False).encode() + b"\n")
                    number += 1
                    yield piece.ids, piece.mask

    store = TokenStore.write(target, examples())
    if evaluation is not None:
        write_atomic(evaluation / "evaluation.jsonl", b"".join(questions))
    if len(store) == 0:
        raise StageError(
            Reason.INVALID_DATASET,
            f"all {total} rows of {target.name} are longer than {encoder.max_length} tokens and were skipped",
            _CUT,
        )
    if encoder.counts.skipped:
        log.warning("%d rows are longer than %d tokens and were skipped", encoder.counts.skipped, encoder.max_length)
    return store


def _describe(data: Dataset, parser: RowParser) -> list[dict[str, Any]]:
    """Return an entry for each source file."""
    return [
        {"name": file.name, "sha256": file.sha256, "rows": rows, "format": parser.format.value}
        for file, rows in zip(data.files, data.counts, strict=True)
    ]
