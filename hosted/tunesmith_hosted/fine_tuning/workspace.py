"""The InferenceWorkspace of a fine-tuned model, or of a base model. Pure, as `manifest` is."""

from __future__ import annotations

from tunesmith_api.objects import API_VERSION
from tunesmith_hosted.config.bases import BaseModelSettings
from tunesmith_hosted.fine_tuning.manifest import PROJECT_LABEL, Object, merged


def workspace_manifest(
    name: str, namespace: str, artifact: str, base: BaseModelSettings | None, *, awake: bool, project_id: str = ""
) -> Object:
    """Return the InferenceWorkspace that serves an artifact.

    Args:
        name: Its name.
        namespace: Its namespace.
        artifact: URI of what it serves.
        base: The base model, whose settings its servers get; None if it has been taken off the list.
        awake: Whether it has servers.
        project_id: The project that it belongs to; empty for a base model, which all share.
    """
    spec = merged(base.workspace if base is not None else {}, {"model": {"uri": artifact}})
    if not awake:
        spec["replicas"] = 0
    labels = {"app.kubernetes.io/managed-by": "tunesmith-hosted", **({PROJECT_LABEL: project_id} if project_id else {})}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": API_VERSION, "kind": "InferenceWorkspace", "metadata": metadata, "spec": spec}
