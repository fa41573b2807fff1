"""How pods on a cluster reach the store of files: by a Secret in their namespace, or by an identity. Pure."""

from __future__ import annotations

from typing import Any

from tunesmith_hosted.config.cluster import SERVICE_ACCOUNT
from tunesmith_hosted.config.settings import Settings
from tunesmith_hosted.fine_tuning.manifest import Object, merged


def with_access(manifest: Object, settings: Settings) -> Object:
    """Return a FineTuneJob or an InferenceWorkspace whose pods reach what is in the store of files.

    What the base model's settings say goes before it.
    """
    cluster = settings.cluster
    if settings.backend == "local":
        return manifest
    template: Object = {}
    if cluster.account_annotations:
        template["serviceAccountName"] = SERVICE_ACCOUNT
    if cluster.pod_labels:
        template["labels"] = cluster.pod_labels
    spec = merged({"podTemplate": template} if template else {}, manifest["spec"])
    if cluster.files_secret:
        spec = _with_secret(spec, settings.files.rstrip("/") + "/", cluster.files_secret)
    return {**manifest, "spec": spec}


def _with_secret(value: Any, prefix: str, secret: str) -> Any:  # noqa: ANN401 - any part of a spec
    """Name the Secret beside each URI of the store."""
    if isinstance(value, list):
        return [_with_secret(item, prefix, secret) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _with_secret(item, prefix, secret) for key, item in value.items()}
    if str(found.get("uri", "")).startswith(prefix):
        found.setdefault("secretRef", {"name": secret})
    return found
