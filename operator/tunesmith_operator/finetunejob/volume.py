"""Where the stages of a job hand their work to one another: a volume, or a prefix of an object store."""

from __future__ import annotations

from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.objects.storage import StorageSpec
from tunesmith_operator.engine.reconciler import Object
from tunesmith_operator.finetunejob.names import metadata, work_folder

MOUNT = "/work"
DEFAULT_SIZE = "20Gi"
DEFAULT_ACCESS_MODE = "ReadWriteOnce"
SHARED = "ReadWriteMany"


def claim(job: Object, spec: FineTuneJobSpec, name: str, observed: Object | None, *, release: bool) -> Object:
    """Return the claim of the job's own volume.

    Args:
        job: The FineTuneJob.
        spec: Its spec.
        name: Name of the claim.
        observed: The claim that is there; a size that somebody has raised is kept.
        release: Whether it is to stay when the job goes.
    """
    about = metadata(job, name)
    if release:
        del about["ownerReferences"]
    storage = spec.storage
    size = storage.size or DEFAULT_SIZE
    if observed is not None:
        size = observed["spec"].get("resources", {}).get("requests", {}).get("storage", size)
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": about, "spec": _claim_spec(storage, size)}


def work_volume(spec: FineTuneJobSpec, claim_name: str | None) -> Object:
    """Return the pod's volume to work on: the shared one, or with an object store a disk of the pod's own."""
    storage = spec.storage
    if claim_name is not None:
        return {"persistentVolumeClaim": {"claimName": claim_name}}
    if storage.size is None and storage.storage_class_name is None:
        return {"emptyDir": {}}
    return {"ephemeral": {"volumeClaimTemplate": {"spec": _claim_spec(storage, storage.size or DEFAULT_SIZE)}}}


def work_uri(job: Object, spec: FineTuneJobSpec) -> str | None:
    """Return where the job's work is in an object store, or None where it is on a volume."""
    if spec.storage.uri is None:
        return None
    return f"{spec.storage.uri.rstrip('/')}/{work_folder(job['metadata']['name'], job['metadata']['uid'])}"


def is_released(observed: Object) -> bool:
    """Return whether a claim outlives its job."""
    return not observed["metadata"].get("ownerReferences")


def artifact_uri(uri: str, claim_name: str | None) -> str:
    """Return where an artifact is as all pods of the namespace understand it: `pvc://CLAIM/PATH` when on the volume."""
    if claim_name is None:
        return uri
    path = uri.removeprefix("file://")
    return f"pvc://{claim_name}{path.removeprefix(MOUNT)}" if path.startswith(f"{MOUNT}/") else uri


def _claim_spec(storage: StorageSpec, size: str) -> Object:
    wanted: Object = {
        "accessModes": [storage.access_mode or DEFAULT_ACCESS_MODE],
        "resources": {"requests": {"storage": size}},
    }
    if storage.storage_class_name:
        wanted["storageClassName"] = storage.storage_class_name
    return wanted
