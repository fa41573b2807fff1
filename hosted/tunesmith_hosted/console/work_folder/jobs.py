"""Jobs in work folders, as the API shows jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tunesmith_api.local.files import read_json
from tunesmith_api.objects import API_VERSION
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_hosted.console.jobs.left import read_curve, read_metrics, read_worst_rows
from tunesmith_hosted.console.jobs.view import job_view

Object = dict[str, Any]

_STATUS = "finetunejob-status.json"
_ENDED = {"Succeeded": "succeeded", "Failed": "failed"}
_RUNNING = frozenset({"Preparing", "Training", "Publishing"})


@dataclass(frozen=True)
class FolderJob:
    """A job in a work folder.

    Attributes:
        id: NAMESPACE.NAME; a namespace has no dot.
        folder: Its work folder.
        status: Its FineTuneJob's status.
    """

    id: str
    folder: Path
    status: Object

    @property
    def manifest(self) -> Object:
        """The FineTuneJob: as it was written, or while it runs for the first time, as its stages read it."""
        stored = read_json(self.folder / "finetunejob.json")
        if stored:
            found: Object = stored["object"]
            return found
        config: Object = read_json(WorkFolder(self.folder).config) or {}
        namespace, _, name = self.id.partition(".")
        metadata = {"name": name, "namespace": namespace}
        return {"apiVersion": API_VERSION, "kind": "FineTuneJob", "metadata": metadata, "spec": config.get("spec", {})}

    @property
    def is_interrupted(self) -> bool:
        """Whether it has not ended, and no process works on it."""
        return self.status.get("phase") not in _ENDED and not _is_alive(self.folder / "lock")

    @property
    def shown_status(self) -> str:
        """Its status in the API."""
        phase = str(self.status.get("phase"))
        if phase in _ENDED:
            return _ENDED[phase]
        if phase == "Suspended" or self.is_interrupted:
            return "paused"
        return "running" if phase in _RUNNING else "queued"

    @property
    def artifact(self) -> str | None:
        """URI of its artifact, if it has one."""
        found = (self.status.get("artifact") or {}).get("uri")
        return str(found) if found else None


def find_jobs(root: Path) -> list[FolderJob]:
    """Return the jobs below a folder, the newest first."""
    found = [
        FolderJob(f"{path.parent.parent.name}.{path.parent.name}", path.parent, status)
        for path in root.glob(f"*/*/{_STATUS}")
        if (status := read_json(path)) is not None
    ]
    return sorted(found, key=lambda job: (str(job.status.get("startTime")), job.id), reverse=True)


def find_job(root: Path, id: str) -> FolderJob | None:
    """Return a job by its id, None if there is none. The id is only compared, never made a path of."""
    return next((job for job in find_jobs(root) if job.id == id), None)


def job_object(job: FolderJob, model: str | None) -> Object:
    """Return a `fine_tuning.job`.

    Args:
        job: The job.
        model: Name of the model that serves its result.
    """
    spec = job.manifest["spec"]
    training = spec.get("training") or {}
    resolved = {name: item.get("value") for name, item in (job.status.get("resolved") or {}).items()}
    chosen = {"n_epochs": resolved.get("epochs", training.get("epochs")), "batch_size": training.get("globalBatchSize")}
    shown = {name: value for name, value in chosen.items() if value is not None}
    kind = "dpo" if spec.get("objective") == "dpo" else "supervised"
    ready = _ready(job.status)
    failed = job.shown_status == "failed"
    return {
        "object": "fine_tuning.job",
        "id": job.id,
        "model": _base(spec),
        "created_at": _seconds(job.status.get("startTime")) or 0,
        "finished_at": _seconds(job.status.get("completionTime")),
        "fine_tuned_model": model,
        "organization_id": "local",
        "result_files": [],
        "status": job.shown_status,
        "validation_file": None,
        "training_file": _source(spec),
        "hyperparameters": shown,
        "method": {"type": kind, kind: {"hyperparameters": shown}},
        "trained_tokens": None,
        "error": {"code": ready.get("reason"), "message": ready.get("message"), "param": None} if failed else None,
        "integrations": [],
        "seed": training.get("seed", 0),
        "estimated_finish": None,
        "metadata": None,
    }


def job_detail(job: FolderJob, model: str | None, after: int) -> Object:
    """Return what the console shows of a job; of the curve only the points after a step."""
    status = dict(job.status)
    if "metrics" not in status and job.shown_status == "failed":
        status["metrics"] = read_metrics(job.folder)
    view = job_view(
        job.id,
        job.shown_status,
        job.manifest,
        status,
        curve=read_curve(job.folder, job.artifact, after),
        worst=read_worst_rows(job.folder, job.artifact),
        model=model,
    )
    if job.is_interrupted:
        view["reason"], view["message"] = "Interrupted", "No process works on it; `tunesmith run` resumes it"
    return view


def events(job: FolderJob) -> list[Object]:
    """Return what has happened to a job, the newest first."""
    found = list(_events(job))
    return [
        {"object": "fine_tuning.job.event", "id": f"{job.id}-{number}", "type": "message", "data": None, **event}
        for number, event in reversed(list(enumerate(found)))
    ]


def _events(job: FolderJob) -> Iterator[Object]:
    work = WorkFolder(job.folder)
    if (started := _seconds(job.status.get("startTime"))) is not None:
        yield {"created_at": started, "level": "info", "message": "The job was started"}
    for stage in Stage:
        marker = work.stage_marker(stage)
        if marker.exists():
            at = int(marker.stat().st_mtime)
            yield {"created_at": at, "level": "info", "message": f"The {stage.value} stage is complete"}
    ready = _ready(job.status)
    if ready.get("message"):
        level = "error" if job.shown_status == "failed" else "info"
        at = _seconds(ready.get("lastTransitionTime")) or 0
        yield {"created_at": at, "level": level, "message": ready["message"]}


def _ready(status: Object) -> Object:
    found: Object = next((item for item in status.get("conditions") or [] if item.get("type") == "Ready"), {})
    return found


def _base(spec: Object) -> str:
    model = spec.get("model") or {}
    return str(model.get("uri") or "scratch")


def _source(spec: Object) -> str:
    """Return where the rows come from."""
    first: Object = next(iter((spec.get("dataset") or {}).get("sources") or ()), {})
    ref = first.get("configMapKeyRef") or {}
    return str(first.get("uri") or f"{ref.get('name', '')}/{ref.get('key', '')}")


def _seconds(time: str | None) -> int | None:
    return None if time is None else int(datetime.fromisoformat(time).timestamp())


def _is_alive(lock: Path) -> bool:
    """Return whether the process that a lock names is there."""
    try:
        os.kill(int(lock.read_text()), 0)
    except (OSError, ValueError):
        return False
    return True
