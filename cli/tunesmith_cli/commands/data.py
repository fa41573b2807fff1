"""`tunesmith data`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from tunesmith_api.spec import JobConfig
from tunesmith_backend.local.data_report import data_report
from tunesmith_cli.commands.manifests import load_valid
from tunesmith_cli.commands.rows import job_config, print_failure
from tunesmith_cli.terminal.console import CliError, Exit, out, title
from tunesmith_cli.terminal.data_report import print_report

_MANIFESTS = (".yaml", ".yml")


def report_data(
    paths: Sequence[Path],
    *,
    columns: Sequence[str],
    form: str | None,
    model: Path | None,
    max_length: int | None,
    task: str | None,
    as_json: bool,
) -> Exit:
    """Report on the rows of data files or of the jobs in manifests, and return the exit code.

    Args:
        paths: Data files and folders, or manifests.
        columns: `NAME=COLUMN` for each column of a data file that has another name than the format's.
        form: The format of a data file; detected by default.
        model: Folder of a model, whose tokenizer is used for a data file.
        max_length: The largest number of tokens in a row.
        task: What is learned of a data file.
        as_json: Print the report as JSON.
    """
    code = Exit.OK
    if any(path.suffix in _MANIFESTS for path in paths):
        manifests = load_valid(paths)
        if manifests is None:
            return Exit.INVALID
        if not manifests.fine_tune_jobs:
            raise CliError("no FineTuneJob in " + ", ".join(map(str, paths)))
        configs, config_maps = list(map(job_config, manifests.fine_tune_jobs)), manifests.config_maps
    else:
        configs, config_maps = [_config_of_files(paths, columns, form, model, max_length, task)], {}
    for config in configs:
        report = data_report(config, config_maps)
        if "error" in report:
            print_failure(report["error"])
            code = Exit.INVALID
        elif as_json:
            print(json.dumps(report, indent=2, ensure_ascii=False))
        else:
            if len(configs) > 1:
                title("FineTuneJob", config.name, "data")
            print_report(report, out)
    return code


def _config_of_files(
    paths: Sequence[Path],
    columns: Sequence[str],
    form: str | None,
    model: Path | None,
    max_length: int | None,
    task: str | None,
) -> JobConfig:
    """Return a job that reads some files, and is never run."""
    mapping = dict(column.partition("=")[::2] for column in columns)
    if not all(mapping.values()):
        raise CliError("write --column NAME=COLUMN, for example --column prompt=question")
    dataset = {"sources": [{"uri": str(path.resolve())} for path in paths], "columns": mapping or None}
    spec = {
        "model": {"uri": str(model.resolve())} if model else {"scratch": {"architecture": "llama"}},
        "method": "full",
        "dataset": {**dataset, **({"format": form} if form else {})},
        **({"training": {"maxLength": max_length}} if max_length else {}),
        **({"task": task} if task else {}),
    }
    try:
        return JobConfig.model_validate({"name": "data", "spec": spec})
    except ValidationError as error:
        first = error.errors()[0]
        raise CliError(f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}") from None
