"""`python -m tunesmith_trainer data`: checks the rows of a job and reports on them, without preparing it."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.local.files import write_json
from tunesmith_api.spec import DatasetSource, JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.data.formats import RowParser
from tunesmith_trainer.data.sources import Dataset, locate
from tunesmith_trainer.runtime.job_config import load_config
from tunesmith_trainer.storage.uris import local_path
from tunesmith_trainer.tasks.registry import task_for


def main(arguments: list[str]) -> int:
    """Write the report, or `{error: {reason, message, remedy}}`, and return the process exit code."""
    parser = argparse.ArgumentParser(prog="python -m tunesmith_trainer data", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="a folder with the job's config.json")
    parser.add_argument("--output", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--check", action="store_true", help="only check that the rows on this machine can be used")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    work = WorkFolder(options.work)
    try:
        config = load_config(work)
        write_json(options.output, _check(config, work) if options.check else _report(config, work), sync=False)
    except StageError as error:
        failure = {"reason": error.reason.value, "message": error.message, "remedy": error.remedy}
        write_json(options.output, {"error": failure}, sync=False)
        return error.exit_code
    except OSError as error:
        print(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "), file=sys.stderr)
        return 70
    return 0


def _check(config: JobConfig, work: WorkFolder) -> dict[str, Any]:
    """Check the rows of all sources that need no network, and return how many there are.

    What all rows have in common is checked if those to train on are all here.
    """
    spec, rows, task = config.spec.dataset, 0, task_for(config.spec)
    parser, targets = RowParser(spec.format, spec.columns, task.formats(config.spec)), task.targets(config.spec)
    whole = all(map(_is_here, spec.sources))
    for role, sources in (("train", spec.sources), ("validation", spec.validation.sources or ())):
        note = targets.add if role == "train" else targets.add_validation
        for row in _dataset(tuple(filter(_is_here, sources)), parser, work, role):
            rows += 1
            if whole:
                note(row)
    if whole and rows:
        task.check_gates(config.spec, targets.facts())
    return {"rows": rows, "format": parser.format.value}


def _is_here(source: DatasetSource) -> bool:
    """Return whether a source needs no network."""
    return source.uri is None or local_path(source.uri) is not None


def _report(config: JobConfig, work: WorkFolder) -> dict[str, Any]:
    from tunesmith_trainer.data.report import RowIndex, build_report
    from tunesmith_trainer.data.report.samples import encoded_samples, plain_samples
    from tunesmith_trainer.prepare.split import held_out_rows

    spec = config.spec.dataset
    parser = RowParser(spec.format, spec.columns, task_for(config.spec).formats(config.spec))
    train = _dataset(spec.sources, parser, work, "train")
    targets = task_for(config.spec).targets(config.spec)
    train_index, validation_index = RowIndex(work.root), None
    for row in train:
        train_index.add(row)
        targets.add(row)
    validation = None
    if spec.validation.sources:
        validation, validation_index = (
            _dataset(spec.validation.sources, parser, work, "validation"),
            RowIndex(work.root),
        )
        for row in validation:
            validation_index.add(row)
            targets.add_validation(row)
    held_out = held_out_rows(len(train_index), spec.validation.fraction, config.spec.training.seed, targets.strata())
    facts = targets.facts()
    encoder = _encoder(config, parser, facts)
    if encoder is None:
        samples = plain_samples(islice(train, 3))
        found = targets.report()
        return build_report(parser, spec.format, train_index, validation_index, held_out, samples, found=found)
    samples = encoded_samples(_encoder(config, parser, facts), islice(train, 8))
    for rows in filter(None, (train, validation)):
        for _ in encoder.encode(rows):
            pass
    return build_report(
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


def _dataset(sources: tuple[DatasetSource, ...], parser: RowParser, work: WorkFolder, role: str) -> Dataset:
    return Dataset(list(_files(sources, work, role)), parser)


def _files(sources: tuple[DatasetSource, ...], work: WorkFolder, role: str) -> Iterator[Any]:
    for index, source in enumerate(sources):
        yield from locate(source, work, f"{role}-{index}")


def _encoder(config: JobConfig, parser: RowParser, facts: Mapping[str, Any]) -> Any:  # noqa: ANN401 - see Task.encoder
    """Return the task's encoder for a model in a local folder; None for any other model.

    Raises:
        StageError: The folder does not exist, or its tokenizer cannot be used.
    """
    uri = config.spec.model.uri
    folder = local_path(uri) if uri and not uri.startswith("hf://") else None
    if uri is None or folder is None:
        return None
    if not folder.is_dir():
        raise StageError(Reason.MODEL_NOT_FOUND, f"{uri}: no such folder", "Correct spec.model.uri")
    from tunesmith_trainer.data.chat_templates import default_template
    from tunesmith_trainer.models.chat_template import settled_template
    from tunesmith_trainer.models.tokenizer import load_tokenizer

    task, tokenizer = task_for(config.spec), load_tokenizer(folder, uri)
    if task.needs_chat_template(parser.format):
        tokenizer.chat_template = tokenizer.chat_template or default_template(tokenizer)
        fold = config.spec.dataset.system_turn == "fold"
        tokenizer.chat_template = settled_template(tokenizer, uri, fold=fold)
    return task.encoder(tokenizer, config.spec, task.settled_facts(facts, _settings(folder), tokenizer, config.spec))


def _settings(folder: Path) -> dict[str, Any]:
    """Return a model's configuration; nothing if it has none that can be read."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).to_dict()
    except (OSError, ValueError):
        return {}
