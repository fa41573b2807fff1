"""Checks the rows of jobs, for the commands that read manifests."""

from __future__ import annotations

from pathlib import Path

from tunesmith_api.manifests import LoadedFineTuneJob, Manifests
from tunesmith_api.spec import DatasetSource, JobConfig
from tunesmith_backend.local.data_report import data_report
from tunesmith_backend.local.inputs import local_spec
from tunesmith_cli.terminal.console import Exit, err, print_error


def check_data(manifests: Manifests) -> Exit:
    """Check the rows of all jobs that are on this machine, print what is wrong, and return the exit code."""
    code = Exit.OK
    for job in manifests.fine_tune_jobs:
        config = _on_this_machine(job, job_config(job))
        if config is None:
            continue
        report = data_report(config, manifests.config_maps, check=True)
        if "error" in report:
            print_failure(report["error"])
            code = Exit.INVALID
    return code


def _on_this_machine(job: LoadedFineTuneJob, config: JobConfig) -> JobConfig | None:
    """Return the job, or None if it has absolute paths that do not exist here, since a pod may have them."""

    def is_here(source: DatasetSource) -> bool:
        absent = source.uri is not None and source.uri.startswith("/") and not Path(source.uri).exists()
        if absent and "*" not in (source.uri or ""):
            err.print(f"[yellow]note[/yellow] {source.uri} is not on this machine, its rows are not checked")
            return False
        return True

    dataset = job.spec.dataset
    if not all(is_here(source) for source in (*dataset.sources, *(dataset.validation.sources or ()))):
        return None
    return config


def job_config(job: LoadedFineTuneJob) -> JobConfig:
    """Return a job with absolute paths, as its stages read it."""
    spec = local_spec(job.spec.training_spec(), Path(job.source.file).parent)
    return JobConfig(name=job.metadata.name, namespace=job.metadata.namespace or "default", spec=spec)


def print_failure(failure: dict[str, str]) -> None:
    """Print what is wrong with a row, and what to write instead."""
    print_error(". ".join(filter(None, (failure["message"], failure["remedy"]))))
