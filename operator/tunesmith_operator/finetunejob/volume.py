"""The storage that the stages of a job share: a volume, or a prefix of an object store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.objects.storage import StorageSpec
from tunesmith_operator.engine.reconciler import KubeObject
from tunesmith_operator.finetunejob.names import metadata, work_folder

MOUNT = "/work"
DEFAULT_SIZE = "20Gi"
DEFAULT_ACCESS_MODE = "ReadWriteOnce"
SHARED = "ReadWriteMany"


def claim(
    job: KubeObject, spec: FineTuneJobSpec, name: str, observed: KubeObject | None, *, release: bool
) -> KubeObject:
    """Return the claim of the job's own volume.

    Args:
        job: The FineTuneJob.
        spec: Its spec.
        name: Name of the claim.
        observed: The existing claim, if any; a size that somebody has raised is kept.
        release: Whether it must stay when the job is deleted.
    """
    about = metadata(job, name)
    if release:
        del about["ownerReferences"]
    storage = spec.storage
    size = storage.size or DEFAULT_SIZE
    if observed is not None:
        size = observed["spec"].get("resources", {}).get("requests", {}).get("storage", size)
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": about, "spec": _claim_spec(storage, size)}


def work_volume(spec: FineTuneJobSpec, claim_name: str | None) -> KubeObject:
    """Return the pod's work volume: the shared one, or with an object store a disk of the pod's own."""
    storage = spec.storage
    if claim_name is not None:
        return {"persistentVolumeClaim": {"claimName": claim_name}}
    if storage.size is None and storage.storage_class_name is None:
        return {"emptyDir": {}}
    return {"ephemeral": {"volumeClaimTemplate": {"spec": _claim_spec(storage, storage.size or DEFAULT_SIZE)}}}


def work_uri(job: KubeObject, spec: FineTuneJobSpec) -> str | None:
    """Return the prefix of the job's work in an object store; None if it is on a volume."""
    if spec.storage.uri is None:
        return None
    return f"{spec.storage.uri.rstrip('/')}/{work_folder(job['metadata']['name'], job['metadata']['uid'])}"


def is_released(observed: KubeObject) -> bool:
    """Return whether a claim outlives its job."""
    return not observed["metadata"].get("ownerReferences")


def artifact_of(result: Mapping[str, Any], claim_name: str | None) -> KubeObject:
    """Return the artifact of a result as the status has it, with its checkpoints and the base model of an adapter."""
    found: KubeObject = {"uri": artifact_uri(str(result["uri"]), claim_name), "digest": str(result.get("digest", ""))}
    if result.get("step") is not None:
        found["step"] = int(result["step"])
    if checkpoints := result.get("checkpoints"):
        found["checkpoints"] = [artifact_of(checkpoint, claim_name) for checkpoint in checkpoints]
    base = result.get("base")
    return {**found, "base": artifact_of(base, claim_name)} if isinstance(base, Mapping) and base.get("uri") else found


def artifact_uri(uri: str, claim_name: str | None) -> str:
    """Return the URI of an artifact for all pods of the namespace: `pvc://CLAIM/PATH` if it is on the volume."""
    if claim_name is None:
        return uri
    path = uri.removeprefix("file://")
    return f"pvc://{claim_name}{path.removeprefix(MOUNT)}" if path.startswith(f"{MOUNT}/") else uri


def _claim_spec(storage: StorageSpec, size: str) -> KubeObject:
    wanted: KubeObject = {
        "accessModes": [storage.access_mode or DEFAULT_ACCESS_MODE],
        "resources": {"requests": {"storage": size}},
    }
    if storage.storage_class_name:
        wanted["storageClassName"] = storage.storage_class_name
    return wanted
