"""Finds the artifact of an InferenceWorkspace on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import MANIFEST, NO_ONNX
from tunesmith_api.local.files import read_json
from tunesmith_api.objects import FineTuneJob, InferenceWorkspace
from tunesmith_api.spec.runtime import RuntimeSpec, cannot_serve, lacks_batch_precision, servable, served_precision
from tunesmith_api.status import Phase
from tunesmith_api.tasks import DEFAULT_TASK
from tunesmith_api.work_folder import Stage, WorkFolder
from tunesmith_backend.interface.errors import BackendError, ErrorKind
from tunesmith_backend.interface.events import Emit, Fetching, ignore
from tunesmith_backend.interface.protocol import ref_of
from tunesmith_backend.local import children
from tunesmith_backend.local.inputs import absolute_uri
from tunesmith_backend.local.store import StatusFile, object_folder


def local_artifact(
    workspace: InferenceWorkspace,
    base: Path,
    root: Path,
    jobs: Sequence[FineTuneJob],
    emit: Emit = ignore,
    log: Path | None = None,
) -> Path:
    """Return the folder of the artifact that a workspace serves. A remote artifact is downloaded first.

    Args:
        workspace: The object.
        base: Folder of its manifest. A relative `model.uri` is relative to it.
        root: Folder of all work.
        jobs: The jobs that a `model.fineTuneJobSelector` chooses from.
        emit: Receives an event when a download starts.
        log: File for the output of the download; by default it is printed.

    Raises:
        BackendError: No FineTuneJob has completed here, or the artifact cannot be reached from this machine.
    """
    name = served_job(workspace, root, jobs)
    uri = workspace.spec.model.uri if name is None else None
    return _folder_of(workspace, name, uri, "spec.model", base, root, emit, log)


def local_draft(
    workspace: InferenceWorkspace, base: Path, root: Path, emit: Emit = ignore, log: Path | None = None
) -> Path | None:
    """Return the folder of a workspace's draft model; None if it has none. A remote artifact is downloaded first.

    Args:
        workspace: The object.
        base: Folder of its manifest. A relative `uri` is relative to it.
        root: Folder of all work.
        emit: Receives an event when a download starts.
        log: File for the output of the download; by default it is printed.

    Raises:
        BackendError: Its job has not completed here or publishes an adapter, or the artifact cannot be reached.
    """
    if (draft := workspace.spec.runtime.draft_model) is None:
        return None
    return _folder_of(workspace, draft.fine_tune_job, draft.uri, "spec.runtime.draftModel", base, root, emit, log)


def _folder_of(
    workspace: InferenceWorkspace,
    job: str | None,
    uri: str | None,
    field: str,
    base: Path,
    root: Path,
    emit: Emit,
    log: Path | None,
) -> Path:
    """Return the folder of an artifact that a workspace names, by a job or by a URI."""
    namespace, workspace_name = workspace.metadata.namespace or "default", workspace.metadata.name
    if job is not None:
        work = WorkFolder(object_folder(root, namespace, job))
        marker = read_json(work.stage_marker(Stage.PUBLISH))
        if marker is None:
            raise BackendError(
                f"InferenceWorkspace {workspace_name}: FineTuneJob {job} of {field} has no artifact yet; "
                "run its manifest to the end first",
                ErrorKind.FAILED,
            )
        artifact = marker["artifact"]
        if artifact.get("base") and field != "spec.model":
            raise BackendError(
                f"InferenceWorkspace {workspace_name}: FineTuneJob {job} publishes an adapter, and a draft model is a "
                f"whole one; train it with export: {{adapterOnly: false}}, or name its base in {field}.uri",
                ErrorKind.FAILED,
            )
        # An adapter is served on its base.
        uri = str((artifact.get("base") or artifact)["uri"])
    assert uri is not None  # noqa: S101 - a rule of the API: without a job there is a URI
    if uri.startswith("pvc://"):
        raise BackendError(
            f"InferenceWorkspace {workspace_name}: {uri} is a volume of a cluster; on one machine write the path of "
            f"the folder in {field}.uri",
            ErrorKind.FAILED,
        )
    uri = absolute_uri(uri.removeprefix("file://"), base)
    if "://" not in uri:
        return Path(uri)
    folder = object_folder(root, namespace, workspace_name) / "artifacts" / _short(uri)
    if not (folder / MANIFEST).exists():
        emit(Fetching(ref_of(workspace), uri))
        process = children.start("tunesmith_trainer.storage", ["fetch", uri, str(folder)], log=log)
        if children.wait(process, lambda: None) != 0:
            raise BackendError(f"InferenceWorkspace {workspace_name}: {uri} could not be fetched", ErrorKind.RETRY)
    return folder


def served_job(workspace: InferenceWorkspace, root: Path, jobs: Sequence[FineTuneJob]) -> str | None:
    """Return the name of the job whose result a workspace serves; None if it serves an artifact by its URI.

    Args:
        workspace: The object.
        root: Folder of all work.
        jobs: The jobs that a `model.fineTuneJobSelector` chooses from.

    Raises:
        BackendError: No job that the workspace follows has completed here.
    """
    if workspace.spec.model.uri is not None:
        return None
    namespace = workspace.metadata.namespace or "default"
    return workspace.spec.model.fine_tune_job or _newest(workspace, namespace, root, jobs)


def require_precision(manifest: Mapping[str, Any], runtime: RuntimeSpec, artifact: Path) -> str | None:
    """Return the precision of an artifact that a workspace serves; None if its manifest does not say what it holds.

    Args:
        manifest: The artifact's manifest.
        runtime: The precision that the workspace asks for, if it does, and its execution provider.
        artifact: The artifact's folder.

    Raises:
        BackendError: It holds others only, or none at all.
    """
    offered, wanted, provider = manifest.get("precisions"), runtime.precision, runtime.execution_provider
    task = str(manifest.get("task") or DEFAULT_TASK)
    if offered is None:
        return wanted
    if (batch := runtime.batch_precision) is not None and batch not in offered:
        raise BackendError(f"{artifact} {lacks_batch_precision(batch)}", ErrorKind.FAILED)
    precision = served_precision(offered, wanted, provider, task)
    if precision in offered:
        return precision
    if not offered:
        raise BackendError(f"{artifact} {NO_ONNX}", ErrorKind.FAILED)
    if not (can := servable(offered, provider, task)):
        raise BackendError(f"{artifact} {cannot_serve(offered, provider, task)}", ErrorKind.FAILED)
    has = " and ".join(map(str, offered))
    raise BackendError(
        f"{artifact} holds no {precision} model, but {has}; write spec.runtime.precision: {can[0]}",
        ErrorKind.FAILED,
    )


def _newest(workspace: InferenceWorkspace, namespace: str, root: Path, jobs: Sequence[FineTuneJob]) -> str:
    """Return the name of the job with a workspace's labels that completed last.

    Raises:
        BackendError: There is none.
    """
    selector = workspace.spec.model.fine_tune_job_selector
    assert selector is not None  # noqa: S101 - a rule of the API: one of the three is set
    labels = selector.match_labels.items()
    found = []
    for job in jobs:
        if (job.metadata.namespace or "default") == namespace and labels <= (job.metadata.labels or {}).items():
            status = StatusFile(object_folder(root, namespace, job.metadata.name), "FineTuneJob").status
            if status.get("artifact") and status.get("phase") == Phase.SUCCEEDED:
                found.append((str(status.get("completionTime", "")), job.metadata.name))
    if not found:
        text = ", ".join(f"{key}={value}" for key, value in labels)
        raise BackendError(
            f"InferenceWorkspace {workspace.metadata.name}: no FineTuneJob of these files with the labels {text} has "
            "completed here; run one to its end, or name it in spec.model.fineTuneJob",
            ErrorKind.FAILED,
        )
    return max(found)[1]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
