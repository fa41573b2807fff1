"""Models that `tunesmith run` serves or has served, as the API shows models."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tunesmith_api.local.files import read_json
from tunesmith_hosted.console.work_folder.jobs import FolderJob

Object = dict[str, Any]

_STATUS = "inferenceworkspace-status.json"


@dataclass(frozen=True)
class FolderModel:
    """A model of a workspace, or an adapter that is served beside it.

    Attributes:
        id: Its public name: NAME, or NAMESPACE.NAME outside the namespace default.
        served: The server's name of it.
        status: Its InferenceWorkspace's status.
    """

    id: str
    served: str
    status: Object

    @property
    def endpoint(self) -> str | None:
        """Base URL of its server; None while it is not served."""
        found = self.status.get("endpoint") if self.status.get("phase") == "Serving" else None
        return str(found) if found else None

    @property
    def artifact(self) -> str | None:
        """Folder of what it serves now."""
        history = self.status.get("history") or []
        return str(history[-1]["artifact"]) if history else None


def find_models(root: Path) -> list[FolderModel]:
    """Return the models below a folder, by name."""
    found = []
    for path in sorted(root.glob(f"*/*/{_STATUS}")):
        status = read_json(path)
        if status is None:
            continue
        namespace, name = path.parent.parent.name, path.parent.name
        prefix = "" if namespace == "default" else f"{namespace}."
        for served in (name, *(item["name"] for item in status.get("adapters") or ())):
            found.append(FolderModel(prefix + served, served, status))
    return found


def find_model(root: Path, id: str) -> FolderModel | None:
    """Return a model by its name, None if there is none."""
    return next((model for model in find_models(root) if model.id == id), None)


def model_of(root: Path, job: FolderJob) -> str | None:
    """Return the name of a model that serves a job's artifact, None if there is none."""
    if job.artifact is None:
        return None
    return next((model.id for model in find_models(root) if model.artifact == job.artifact), None)


def model_object(model: FolderModel) -> Object:
    """Return a `model`."""
    return {"id": model.id, "object": "model", "created": _created(model), "owned_by": "local"}


def model_detail(model: FolderModel, jobs: list[FolderJob]) -> Object:
    """Return what the console shows of a model."""
    status = model.status
    ready: Object = next((item for item in status.get("conditions") or [] if item.get("type") == "Ready"), {})
    return {
        "id": model.id,
        "created": _created(model),
        "own": True,
        "kind": "tuned",
        "jobId": next((job.id for job in jobs if job.artifact and job.artifact == model.artifact), None),
        "wanted": "awake" if model.endpoint else "asleep",
        "isServed": model.endpoint is not None,
        "endpoint": model.endpoint,
        "revisions": [
            {**item, "isCurrent": item["revision"] == status.get("revision")}
            for item in reversed(status.get("history") or [])
        ],
        "rollout": {
            "phase": status.get("phase"),
            "revision": status.get("revision"),
            "previousRevision": status.get("previousRevision"),
            "reason": ready.get("reason"),
            "message": ready.get("message"),
        },
        "replicas": {"now": status.get("replicas") or 0, "ready": status.get("readyReplicas") or 0},
    }


def _created(model: FolderModel) -> int:
    history = model.status.get("history") or []
    return int(datetime.fromisoformat(history[0]["time"]).timestamp()) if history else 0
