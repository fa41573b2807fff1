"""The volume that the stages of a job share."""

from __future__ import annotations

from tunesmith_operator.api import FineTuneJobSpec
from tunesmith_operator.engine.decision import Object
from tunesmith_operator.finetunejob.names import metadata

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
    wanted: Object = {
        "accessModes": [storage.access_mode or DEFAULT_ACCESS_MODE],
        "resources": {"requests": {"storage": size}},
    }
    if storage.storage_class_name:
        wanted["storageClassName"] = storage.storage_class_name
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": about, "spec": wanted}


def is_released(observed: Object) -> bool:
    """Return whether a claim outlives its job."""
    return not observed["metadata"].get("ownerReferences")


def artifact_uri(uri: str, claim_name: str) -> str:
    """Return where an artifact is as all pods of the namespace understand it: `pvc://CLAIM/PATH` when on the volume."""
    path = uri.removeprefix("file://")
    return f"pvc://{claim_name}{path.removeprefix(MOUNT)}" if path.startswith(f"{MOUNT}/") else uri
