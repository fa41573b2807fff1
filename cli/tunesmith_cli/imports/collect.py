"""Finds the jobs that are to be imported, and their files of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith_cli.imports.errors import ImportFailedError
from tunesmith_cli.imports.jobs import ForeignJob, job_of, read_jobs
from tunesmith_cli.imports.remote import Remote


@dataclass(frozen=True)
class Found:
    """A job with its files.

    Attributes:
        job: The job.
        training: Its files of rows.
        validation: Its file of rows to validate with.
    """

    job: ForeignJob
    training: tuple[Path, ...]
    validation: Path | None = None


def collect(
    given: Sequence[str], validation: Path | None, remote: Remote | None, every: bool, downloads: Path
) -> list[Found]:
    """Return what is to be imported.

    Args:
        given: Files of rows (.jsonl) and of jobs (.json), folders of both, and ids of jobs.
        validation: Rows to validate with, of files of rows without a job.
        remote: Where jobs by id and files that are not here are read from; None without a key.
        every: Import all jobs of the key's project that have succeeded.
        downloads: Folder that files are written to.

    Raises:
        ImportFailedError: Something is missing or wrong.
    """
    paths = [Path(item) for item in given if not _is_id(item)]
    rows, jobs = [], []
    for path in paths:
        if not path.exists():
            raise ImportFailedError(f"{path}: there is no such file; ids of jobs begin with ftjob-")
        inside = sorted(item for item in path.iterdir() if item.is_file()) if path.is_dir() else [path]
        for item in inside:
            if item.suffix == ".jsonl":
                rows.append(item)
            elif item.suffix == ".json":
                jobs += read_jobs(item)
            elif not path.is_dir():
                raise ImportFailedError(f"{item}: write rows as .jsonl and jobs as .json")
    ids = [item for item in given if _is_id(item)]
    if (ids or every) and remote is None:
        raise ImportFailedError("set OPENAI_API_KEY to read jobs from the API")
    if remote is not None:
        jobs += [job_of(remote.get(f"/fine_tuning/jobs/{id}")) for id in ids]
        if every:
            listed = remote.all("/fine_tuning/jobs")
            jobs += [job_of(item) for item in listed if item.get("status") == "succeeded"]
    unique = list({job.id: job for job in jobs}.values())
    if not unique:
        return [Found(ForeignJob(suffix=rows[0].stem), tuple(rows), validation)] if rows else []
    if validation is not None:
        raise ImportFailedError("--validation is for rows without a job; a job names its own validation_file")
    return [_with_files(job, rows, remote, downloads, is_only=len(unique) == 1) for job in unique]


def _is_id(text: str) -> bool:
    return text.startswith("ftjob-") and not Path(text).exists()


def _with_files(job: ForeignJob, rows: Sequence[Path], remote: Remote | None, downloads: Path, is_only: bool) -> Found:
    def find(id: str, alone: bool) -> Path:
        named = [path for path in rows if path.name.startswith(id)]
        if len(named) == 1:
            return named[0]
        if alone and len(rows) == 1:
            return rows[0]
        if remote is None:
            raise ImportFailedError(
                f"{job.id}: {id} is not here; name the file {id}.jsonl, or set OPENAI_API_KEY to read it from the API"
            )
        target = downloads / f"{id}.jsonl"
        if not target.exists():
            partial = target.with_suffix(".partial")
            remote.download(f"/files/{id}/content", partial, int(remote.get(f"/files/{id}")["bytes"]))
            partial.rename(target)
        return target

    training = find(job.training_file, is_only and job.validation_file is None)
    return Found(job, (training,), find(job.validation_file, False) if job.validation_file else None)
